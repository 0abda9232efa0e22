"""OpenAI's files and uploads: bytes on disk by id, one row each, streamed in and out."""
