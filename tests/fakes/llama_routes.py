"""Every route of llama-server at the pinned commit, as its source registers them."""

ROUTES = """
GET /health
GET /v1/health
GET /metrics
GET /props
POST /props
GET /models
GET /v1/models
POST /models
DELETE /models
POST /models/load
POST /models/unload
GET /models/sse
POST /completion
POST /completions
POST /v1/completions
POST /chat/completions
POST /v1/chat/completions
POST /v1/chat/completions/control
POST /v1/responses
POST /responses
POST /v1/audio/transcriptions
POST /audio/transcriptions
POST /v1/messages
POST /infill
POST /embedding
POST /embeddings
POST /v1/embeddings
POST /rerank
POST /reranking
POST /v1/rerank
POST /v1/reranking
POST /tokenize
POST /detokenize
POST /apply-template
POST /chat/completions/input_tokens
POST /v1/chat/completions/input_tokens
POST /responses/input_tokens
POST /v1/responses/input_tokens
POST /v1/messages/count_tokens
GET /lora-adapters
POST /lora-adapters
GET /slots
POST /slots/:id_slot
GET /v1/stream
POST /v1/streams/lookup
DELETE /v1/stream
GET /cors-proxy
POST /cors-proxy
GET /tools
POST /tools
""".split("\n")


def routes() -> list[tuple[str, str]]:
    """Method and path of each."""
    return [(line.split()[0], line.split()[1]) for line in ROUTES if line]
