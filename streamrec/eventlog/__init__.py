"""Where events come from and where forecasts go: sources, sinks and the codec between bytes and events."""
