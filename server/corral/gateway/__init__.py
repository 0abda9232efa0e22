"""HTTP in front of llama-server: routes, names, limits, streams, errors."""
