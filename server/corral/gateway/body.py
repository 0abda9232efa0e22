"""Request bodies: parse strictly, change only what must change. Pure."""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from corral.errors import BadRequest
from corral.registry.catalog import Default
from corral.runtime.presets import Placement

# Different names of one limit: a default for one must not join another that the client has sent.
LENGTH_KEYS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"the body is not valid JSON: {name} is no JSON number", code="invalid_json")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


# msgspec reads and writes in a fifth of the time, and is stricter: what it refuses these read, or say why not.
DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`, every number in it finite; BadRequest with the position when it is none."""
    try:
        body = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        body = _parse(raw)
    if not isinstance(body, dict):
        raise BadRequest(
            f"the body must be a JSON object, not {kind_of(body)}", code="invalid_json"
        )
    return body


def _parse(raw: bytes) -> Any:
    if not raw.strip():
        raise BadRequest("the body is empty; send a JSON object", code="invalid_json")
    try:
        return DECODER.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno} "
            f"(character {error.pos})",
            code="invalid_json",
        ) from None
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"the body is not valid UTF-8: byte {error.start}", code="invalid_json"
        ) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None
    # None of the others: a number that is not finite, or has more digits than Python reads.
    except ValueError:
        raise BadRequest(
            "the body holds a number too large for JSON", code="invalid_json"
        ) from None


def asked_model(body: Mapping[str, Any], default: str | None) -> str:
    """The name in `model`; `default` where the route allows it to be left out."""
    name = body.get("model")
    if name is None and default is not None:
        return default
    if name is None:
        raise BadRequest("`model` is required; GET /v1/models lists the names", param="model")
    if not isinstance(name, str) or not name.strip():
        raise BadRequest(f"`model` must be a non-empty string, not {kind_of(name)}", param="model")
    return name


def length_limit(body: Mapping[str, Any]) -> int | None:
    """The most tokens that the answer may have, where the body says so."""
    given = [body[key] for key in LENGTH_KEYS if isinstance(body.get(key), int)]
    return min(given) if given and min(given) > 0 else None


def with_defaults(body: dict[str, Any], defaults: Mapping[str, Default]) -> None:
    """Fill in the model's own sampling defaults where the client has set nothing."""
    for key, value in defaults.items():
        rivals = LENGTH_KEYS if key in LENGTH_KEYS else (key,)
        if all(body.get(rival) is None for rival in rivals):
            body[key] = value


def for_upstream(body: dict[str, Any], placement: Placement) -> bytes:
    """The bytes for llama-server: its section as `model`, its adapters' scales as `lora`."""
    body["model"] = placement.section
    body.pop("lora", None)
    if placement.lora is not None:
        body["lora"] = placement.lora
    try:
        return msgspec.json.encode(body)
    # Whole numbers of more than 64 bits, and halves of characters.
    except (OverflowError, UnicodeEncodeError):
        return ENCODER.encode(body).encode()


def kind_of(value: Any) -> str:
    """What a JSON value is, for messages."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    names |= {str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
