"""Producers: a historical log or a simulated stream, paced, to a topic, every line exactly once."""
