"""What llama-server does for clients: one table, and its part of the API's description."""

from dataclasses import dataclass
from typing import Any

from corral.gateway import body as bodies
from corral.gateway.compat import fields
from corral.gateway.sse import Dialect
from corral.openapi import EVENTS


@dataclass(frozen=True)
class Passed:
    """One thing that llama-server does: its path there, the paths here, how it streams, the field
    that holds the text, and the kind of model that it takes."""

    upstream: str
    paths: tuple[str, ...]
    summary: str
    dialect: Dialect = "native"
    prompt: str = "messages"
    generates: bool = False
    embeds: bool = False
    model_optional: bool = False

    @property
    def takes_a_slot(self) -> bool:
        """Whether llama-server works on it in a slot; tokenising and its like need none."""
        return self.generates or self.embeds or self.upstream == "/v1/rerank"

    @property
    def gives_form(self) -> bool:
        """Whether llama-server reads schemas there, if only to render a prompt."""
        return self.generates or self.chats

    @property
    def chats(self) -> bool:
        """Whether it takes messages and tools."""
        return self.upstream in CHATS


PASSED = (
    Passed(
        "/v1/chat/completions",
        ("/v1/chat/completions", "/chat/completions"),
        "Chat, OpenAI's shape",
        "openai",
        generates=True,
    ),
    Passed(
        "/v1/completions",
        ("/v1/completions", "/completions"),
        "Text completion, OpenAI's shape",
        "openai",
        prompt="prompt",
        generates=True,
    ),
    Passed(
        "/v1/responses",
        ("/v1/responses", "/responses"),
        "Responses, OpenAI's shape",
        "responses",
        prompt="input",
        generates=True,
    ),
    Passed(
        "/v1/messages",
        ("/v1/messages", "/messages"),
        "Messages, Anthropic's shape",
        "anthropic",
        generates=True,
    ),
    Passed(
        "/v1/messages/count_tokens",
        ("/v1/messages/count_tokens", "/messages/count_tokens"),
        "Count the tokens of messages, Anthropic's shape",
    ),
    Passed(
        "/v1/embeddings",
        ("/v1/embeddings", "/embeddings"),
        "Embeddings, OpenAI's shape",
        prompt="input",
        embeds=True,
    ),
    Passed("/v1/rerank", ("/v1/rerank", "/rerank"), "Rank documents by relevance to a query"),
    Passed("/tokenize", ("/tokenize",), "Text to token ids", model_optional=True),
    Passed("/detokenize", ("/detokenize",), "Token ids to text", model_optional=True),
    Passed(
        "/apply-template", ("/apply-template",), "Messages to the prompt text", model_optional=True
    ),
    Passed(
        "/infill",
        ("/infill",),
        "Fill in the middle of a text",
        prompt="input_prefix",
        generates=True,
        model_optional=True,
    ),
)

# What takes messages and tools, if only to render or to count them.
CHATS = (
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/apply-template",
)

ANSWER = {"application/json": {"schema": {"type": "object"}}}
# Of fields that Corral reads too, what it does with them. Without a type: whatever else stands there is
# llama-server's affair, or as if it were not there.
LORA = {"lora": "passed over: the model's name chooses the adapter"}
RANK = {
    "service_tier": "lowers the rank to wait in: `default`, `flex`; all else leaves it to the key"
}
LENGTHS = dict.fromkeys(
    bodies.LENGTH_KEYS, "takes the place of the model's own default of any such name"
)
SLOT = {
    "id_slot": "llama-server's slot; without it Corral chooses where a base has adapters",
    "n": "how many answers; above 1 llama-server chooses the slots",
}
FORM = {
    "json_schema": "what the answer must be, where no `response_format` says it",
    "grammar_triggers": "only for keys that may send a `grammar`",
}


def description(passed: Passed) -> dict[str, Any]:
    """The body and the answer, for the API's own description: what Corral itself holds to. All else
    is llama-server's affair."""
    schema = {
        "type": "object",
        "properties": _properties(passed),
        "required": [] if passed.model_optional else ["model"],
        "additionalProperties": True,
    }
    answers = ANSWER | (EVENTS if passed.generates else {})
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "llama-server's answer", "content": answers}},
    }


def _properties(passed: Passed) -> dict[str, Any]:
    name = {"type": ["string", "null"] if passed.model_optional else "string", "pattern": r"\S"}
    found = {"model": name | {"description": "a name of GET /v1/models"}, **fields()}
    if passed.gives_form:
        told = "in llama.cpp's language; not for every key (setting `client_grammars`)"
        found["grammar"] = {"type": ["string", "null"], "description": told}
    told_of = LORA | (RANK if passed.takes_a_slot else {}) | (FORM if passed.gives_form else {})
    if passed.generates:
        told_of |= LENGTHS | SLOT
    return found | {key: {"description": text} for key, text in told_of.items()}
