"""The experts: one file per model, registered by name, imported when asked for."""
