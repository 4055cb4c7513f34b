"""Scores: accumulators that are part of the state, so that a restart changes no figure."""
