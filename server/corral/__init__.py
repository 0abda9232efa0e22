"""Corral: build, fine-tune, evaluate, quantise and serve GGUF models behind OpenAI's API."""
