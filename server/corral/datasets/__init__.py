"""Training data: formats, containers, checks, counting, splitting.

    bytes ─► containers (JSONL, JSON array, CSV, Parquet, folder)
          ─► strict_json (one JSON object, or a clear error)
          ─► formats (OpenAI, mlx-lm, ShareGPT …) ─► rows.Row ─► formats ─► containers

Everything here is pure, but for the files named on the way in and out, for `template_server`,
which runs a private llama-server to render chat templates, and for `sources/`, which asks FOLIO
and models over the network. Nothing here imports another part of
Corral, so that stages, the API and the command line share it.
"""
