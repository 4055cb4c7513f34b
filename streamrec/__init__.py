"""streamrec: a streaming event-sequence processor that says what comes next, and when."""

__version__ = "0.1.0"
