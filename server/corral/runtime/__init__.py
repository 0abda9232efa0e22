"""llama-server: its command line and presets, its supervision, and calls to it."""
