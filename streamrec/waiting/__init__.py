"""Distributions of the waiting time to a user's next event."""
