"""The loop over a live topic: lanes that come and go, and are exact whatever happens."""
