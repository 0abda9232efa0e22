"""Training data: formats, containers, checks, counting, splitting.

    bytes ─► containers (JSONL, JSON array, CSV, Parquet, folder)
          ─► strict_json (one JSON object, or a clear error)
          ─► formats (OpenAI, mlx-lm, ShareGPT …) ─► rows.Row ─► formats ─► containers

Everything here is pure, but for the files named on the way in and out and for `template_server`,
which runs a private llama-server to render chat templates. Nothing here imports another part of
Corral than `corral.errors`, so that stages, the API and the command line share it.
"""
