"""The API's own description: what every route answers, its errors, and what it asks of a key.

Routes name the shape of their answer with `response_model`; they answer with finished JSON, so these
shapes describe and cost nothing while serving. Errors and keys are added here, for every route alike.
Held true by tests/long/test_openapi.py: each answer of a running server is compared with it.
"""

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")
Operation = dict[str, Any]

# Where the document keeps its parts, for pydantic.
PARTS = "#/components/schemas/{model}"

EXPECTED = {
    "400": "the request is malformed or asks for the impossible",
    "401": "no API key, or not one of this server",
    "403": "the key may not do this, or the request comes from a foreign web page",
    "404": "there is no such thing, or it is another's",
    "408": "the body took too long to arrive",
    "409": "not in the present state; asking again does not help",
    "413": "the body is over the limit",
    "429": "too many requests; Retry-After says when to ask again",
    "500": "a bug, or the database cannot be used; the log has it under x-request-id",
    "502": "llama-server broke off or answered nonsense",
    "503": "llama-server or the model is not up yet, or Corral is stopping",
    "504": "llama-server did not answer in time",
    "507": "not enough free space on the disk",
}
# What one event of a stream is.
EVENTS = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("event", "data", "id")},
            "required": ["data"],
        }
    }
}
EVERYWHERE = ("403", "500")
WITH_KEY = ("400", "401", "404", "409")
WITH_BODY = ("400", "408", "413", "507")
UPSTREAM = ("429", "502", "503", "504")


class Shown(BaseModel):
    """An object as the API shows it: every field is there, and no other."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Page(Shown, Generic[Item]):
    """A page of a list."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ShownError(Shown):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Shown):
    """The one shape of every error."""

    error: ShownError


def describe(app: FastAPI, need: Callable[[str, str], str]) -> None:
    """Have `app.openapi()` tell errors and keys too. `need`: what a method and path ask of a key;
    `nothing` where none is asked for."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(plain(), need)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _complete(document: dict[str, Any], need: Callable[[str, str], str]) -> None:
    parts = document.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    # FastAPI's own error shape, which Corral never sends.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    errors = ErrorEnvelope.model_json_schema(ref_template=PARTS)
    schemas |= errors.pop("$defs") | {"ErrorEnvelope": errors}
    parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            schemas |= _lifted(operation)
            _complete_one(operation, need(method.upper(), path))


def _lifted(operation: Operation) -> dict[str, Any]:
    """The parts of a body's schema, which may stand only among the document's own."""
    content = operation.get("requestBody", {}).get("content", {})
    found: dict[str, Any] = {}
    for kind in content.values():
        found |= kind["schema"].pop("$defs", {})
    return found


def _complete_one(operation: Operation, needed: str) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    wanted = set(EVERYWHERE)
    if needed != "nothing":
        operation["security"] = [{"key": []}]
        operation["x-corral-scope"] = needed
        wanted |= set(WITH_KEY)
    if "requestBody" in operation:
        wanted |= set(WITH_BODY)
    wanted |= set(UPSTREAM if needed == "inference" else ("503",))
    for status in sorted(wanted):
        answers.setdefault(status, _error_answer(EXPECTED[status]))


def _error_answer(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ErrorEnvelope"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
