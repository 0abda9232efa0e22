"""Requests that almost make sense: good ones of every route, each spoilt in one to three places. Seeded."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

NAMES = {"model": "tiny", "max_tokens": 8, "temperature": 0.5}
TURN = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
CHAT = NAMES | {"messages": [TURN, {"role": "assistant", "content": None}, TURN], "stream": True}
JOB = {"model": "tiny", "training_file": "file-x", "suffix": "a", "metadata": {"a": "b"},
       "hyperparameters": {"n_epochs": 1}, "method": {"type": "supervised"}}  # fmt: skip
KEY = {"name": "a", "owner": "b", "scopes": ["files"], "models": ["tiny"], "rpm": 5, "tpm": 5,
       "budget": 5, "expires_at": 4102444800}  # fmt: skip
UPLOAD = {"bytes": 10, "filename": "a.jsonl", "mime_type": "text/plain", "purpose": "fine-tune",
          "expires_after": {"anchor": "created_at", "seconds": 3600}}  # fmt: skip
BODIES: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/chat/completions": NAMES | {"messages": [TURN], "tools": [TOOL], "tool_choice": "auto"},
    "/v1/completions": NAMES | {"prompt": "hello", "stop": ["x"], "logit_bias": {"1": 2}},
    "/v1/responses": NAMES | {"input": [TURN], "text": {"format": {"type": "text"}}},
    "/v1/messages": NAMES | {"messages": [TURN], "system": "s", "stream": True},
    "/v1/messages/count_tokens": NAMES | {"messages": [TURN], "tools": [TOOL]},
    "/v1/embeddings": NAMES | {"input": ["a", "b"]},
    "/v1/rerank": NAMES | {"query": "a", "documents": ["b", "c"]},
    "/tokenize": {"content": "hello"},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/apply-template": {"messages": [TURN], "response_format": FORMAT},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
    "/v1/fine_tuning/jobs": JOB,
    "/corral/v1/jobs": {"kind": "quantize", "spec": {"model": "tiny", "types": ["Q4_K_M"]}},
    # Mostly refused: every key that is made stays in memory, as it must.
    "/corral/v1/keys": KEY | {"unknown": 1},
    "/corral/v1/keys/x/rotate": {"keep_seconds": 5},
    "/v1/uploads": UPLOAD,
    "/v1/uploads/x/complete": {"part_ids": ["a", "b"], "md5": "0" * 32},
}
FORMS = ("/v1/files", "/v1/uploads/x/parts")
GETS = (
    "/v1/models", "/v1/models/tiny", "/health", "/ready", "/metrics", "/docs", "/openapi.json",
    "/v1/files?limit=2&order=asc&purpose=batch&after=x", "/v1/files/x", "/v1/files/x/content",
    "/v1/fine_tuning/jobs?limit=3&metadata[a]=b", "/v1/fine_tuning/jobs/x/events?after=y&limit=1",
    "/v1/fine_tuning/jobs/x/checkpoints", "/corral/v1/jobs?status=queued&kind=pull&limit=5",
    "/corral/v1/jobs/x/events?after=jobevent_3", "/corral/v1/keys/x",
    "/corral/v1/usage?since=2026-01-01&until=2026-12-31&key=a&model=b",
)  # fmt: skip
METHODS = (
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "B\x01D",
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, 0.1, "", " ", "\0",
    "a" * 5000, "\ud800", "\u202e", "é" * 300, "../../etc/passwd", "' OR 1=1 --", [], {}, [[]], [None],
    {"": None}, {"$ref": "#"}, ["a"] * 300, {"a" * 300: 1}, "http://127.0.0.1/", "file:///etc/passwd",
)  # fmt: skip
ODD_PATHS = (
    "/", "//", "/v1", "/v1//models", "/v1/models/%00", "/v1/models/%ff%fe", "/v1/models/%zz", "/../v1/models",
    "/v1/files/../../etc/passwd", "/v1/files/%2e%2e%2f%2e%2e", "*", "http://other/v1/models", "/v1/models?" + "a=b&" * 500,
    "/" + "a" * 9000, "/v1/models/" + "%41" * 3000, "/v1/models#x", "/v1/models;x=1", "v1/models", "/v1/files?limit=" + "9" * 400,
    "/slots", "/props", "/models/load", "/lora-adapters", "/v1/files?limit=1&limit=2&order=%00",
)  # fmt: skip
ODD_HEADERS = (
    "Host: evil.example", "Host:", "Origin: https://evil.example", "Authorization: Bearer", "Authorization: Basic eDp5",
    "Authorization: Bearer \xff\xfe", "X-Api-Key: \x7f", "Content-Type: text/plain", "Content-Type: multipart/form-data",
    "Content-Type: application/json; charset=utf-16", "Content-Encoding: gzip", "Expect: 100-continue", "Expect: nonsense",
    "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Connection: upgrade\r\nUpgrade: websocket",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "X-Request-Id: a\x0bb", "X-Long: " + "a" * 7000, "X-Longer: " + "a" * 70000,
    "No colon", " folded: x", ": empty", "Content-Length: 0", "Range: bytes=0-", "Last-Event-ID: x", "Cookie: " + "a=b;" * 400,
)  # fmt: skip
ODD_LENGTHS = (
    "-1",
    "0",
    "1",
    "x",
    "1e3",
    "99999999999999999999",
    "300000",
    "+5",
    "0x10",
    "5, 5",
    "",
)
BOUNDARY = "xyzzy"


@dataclass(frozen=True)
class Request:
    """One request before it is bytes."""

    method: str
    path: str
    headers: tuple[str, ...] = ()
    body: bytes = b""
    length: str | None = None
    keep: float = 1.0


@dataclass(frozen=True)
class Mutant:
    """What goes over the wire; `leaves`: the client goes away without reading."""

    raw: bytes
    leaves: bool = field(default=False)


def mutants(seed: int, count: int, key: str) -> Iterator[Mutant]:
    """So many of them, always the same for a seed."""
    chance = random.Random(seed)
    for _ in range(count):
        request = _good(chance, key)
        for _ in range(chance.choice((1, 1, 2, 3))):
            request = chance.choice(SPOIL)(chance, request)
        yield Mutant(_noise(chance, _raw(request)), chance.random() < 0.05 or request.keep < 1)


def _good(chance: random.Random, key: str) -> Request:
    headers: tuple[str, ...] = (
        "Host: 127.0.0.1",
        f"Authorization: Bearer {key}",
        "Connection: close",
    )
    kind = chance.random()
    if kind < 0.2:
        return Request("GET", chance.choice(GETS), headers)
    if kind < 0.3:
        headers += (f"Content-Type: multipart/form-data; boundary={BOUNDARY}",)
        return Request("POST", chance.choice(FORMS), headers, _form(chance))
    path = chance.choice(list(BODIES))
    body = _spoilt_json(chance, copy.deepcopy(BODIES[path]))
    return Request("POST", path, (*headers, "Content-Type: application/json"), body)


def _form(chance: random.Random) -> bytes:
    fields = [
        'name="purpose"\r\n\r\nfine-tune', 'name="file"; filename="a.jsonl"\r\n\r\n{"messages":[]}',
        'name="data"; filename="b"\r\n\r\nxxxx', 'name="expires_after[anchor]"\r\n\r\ncreated_at',
        'name="expires_after[seconds]"\r\n\r\n' + chance.choice(("3600", "-1", "x", "9" * 400)),
        'name="a[b][c]"\r\n\r\nd', 'name=""\r\n\r\n', 'filename="../../x"; name="file"\r\n\r\ny', "\r\n\r\n",
        'name="file"; filename="' + "n" * 400 + '"\r\nContent-Type: \xff\r\n\r\nz' + "z" * chance.choice((0, 70000)),
    ]  # fmt: skip
    chosen = chance.sample(fields, chance.randint(1, 5))
    parts = [f"--{BOUNDARY}\r\nContent-Disposition: form-data; {part}\r\n" for part in chosen]
    end = chance.choice((f"--{BOUNDARY}--\r\n", f"--{BOUNDARY}", "", "--other--"))
    return ("".join(parts) + end).encode("latin-1", "replace")


def _spoilt_json(chance: random.Random, body: Any) -> bytes:
    for _ in range(chance.randint(0, 3)):
        _spoil_value(chance, body)
    raw = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = chance.random()
    if kind < 0.8:
        return raw
    at = chance.randrange(len(raw) + 1)
    return chance.choice(
        (
            raw[:at], raw[:at] + b"\xff\xfe\x80" + raw[at:], b"\xef\xbb\xbf" + raw, raw + raw, b"[" * 100_000,
            b'{"a":' * 5000 + b"1" + b"}" * 5000, raw.replace(b"1", b"NaN"), raw.decode("utf-8", "replace").encode("utf-16"),
            raw.replace(b"{", b'{"model":"other","model":"tiny",', 1), b"null", b"", b" " * 300_000, raw.replace(b":", b"", 1),
            b'{"model":"tiny","messages":[' + b'{"role":"user","content":"x"},' * 4000 + b'{"role":"user","content":"x"}]}',
        )
    )  # fmt: skip


def _spoil_value(chance: random.Random, body: Any) -> None:
    """Drop, add, retype or nest one value somewhere in `body`."""
    holder = body
    while isinstance(holder, dict | list) and holder and chance.random() < 0.6:
        inner = chance.choice(list(holder.values()) if isinstance(holder, dict) else holder)
        if not isinstance(inner, dict | list):
            break
        holder = inner
    if not holder:
        return
    place = (
        chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    )
    deed = chance.random()
    if deed < 0.25:
        del holder[place]
    elif deed < 0.8:
        holder[place] = copy.deepcopy(chance.choice(ODD_VALUES))
    elif deed < 0.9:
        holder[place] = _nested(holder[place], chance.choice((3, 40, 300)))
    elif isinstance(holder, dict):
        extra = chance.choice(
            (
                *BODIES["/chat/completions"],
                "response_format",
                "stream",
                "lora",
                "json_schema",
                "n",
                "user",
                "",
            )
        )
        holder[extra] = copy.deepcopy(chance.choice((FORMAT, *ODD_VALUES)))


def _nested(value: Any, depth: int) -> Any:
    for level in range(depth):
        value = {"content": value} if level % 2 else [value]
    return value


def _method(chance: random.Random, request: Request) -> Request:
    return replace(request, method=chance.choice(METHODS))


def _path(chance: random.Random, request: Request) -> Request:
    if chance.random() < 0.5:
        return replace(request, path=chance.choice(ODD_PATHS))
    at = chance.randrange(len(request.path)) + 1
    odd = chance.choice(("%00", "/", "%2F", "é", " ", "..", "?", "%C3%28", "\t", "{x}", "=\x7f"))
    return replace(request, path=request.path[:at] + odd + request.path[at:])


def _header(chance: random.Random, request: Request) -> Request:
    added = chance.choice(ODD_HEADERS)
    name = added.partition(":")[0].lower()
    kept = tuple(
        h for h in request.headers if chance.random() < 0.3 or h.partition(":")[0].lower() != name
    )
    return replace(request, headers=(*kept, added) if chance.random() < 0.9 else kept[1:])


def _length(chance: random.Random, request: Request) -> Request:
    return replace(request, length=chance.choice(ODD_LENGTHS)) if chance.random() < 0.3 else request


def _half(chance: random.Random, request: Request) -> Request:
    return replace(request, keep=chance.random()) if chance.random() < 0.4 else request


def _same(chance: random.Random, request: Request) -> Request:
    return request


SPOIL: tuple[Callable[[random.Random, Request], Request], ...] = (
    _method, _path, _header, _header, _length, _half, _same, _same, _same,
)  # fmt: skip


def _raw(request: Request) -> bytes:
    length = str(len(request.body)) if request.length is None else request.length
    lines = [f"{request.method} {request.path} HTTP/1.1", *request.headers]
    if request.body or request.length is not None:
        lines.append(f"Content-Length: {length}")
    head = "\r\n".join(lines).encode("latin-1", "replace")
    body = request.body[: int(len(request.body) * request.keep)]
    return head + b"\r\n\r\n" + body


def _noise(chance: random.Random, raw: bytes) -> bytes:
    """Now and then something that is hardly HTTP."""
    kind = chance.random()
    if kind > 0.02:
        return raw
    at = chance.randrange(len(raw))
    return chance.choice(
        (raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01" + raw[:50],
         raw.replace(b"\r\n", b"\n"), raw.replace(b"HTTP/1.1", b"HTTP/0.9"), raw.replace(b"HTTP/1.1", b"HTTP/9.9"), raw + raw)
    )  # fmt: skip
