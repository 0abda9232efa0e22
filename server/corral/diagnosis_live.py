"""What `corral doctor --live` concludes from what a running Corral answered: pure.

Asking is `corral.cli.doctor_live`'s part.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.diagnosis import Finding, Level

# A gateway that answers /health slower than this is short of CPU.
SLOW_SECONDS = 1.0
FULL = 0.9


@dataclass(frozen=True)
class Answer:
    """One request: how long it took, what came (None where nothing did), and why not."""

    seconds: float
    content: Any = None
    error: str = ""
    status: int = 0


@dataclass(frozen=True)
class Written:
    """An answer of a model: seconds to its first byte and to its last, tokens, and tokens per second by
    llama-server's own clock; 0 where it did not say."""

    first: float
    last: float
    tokens: int = 0
    rate: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Live:
    """What was asked and answered. `model` is what the two answers were asked of; `metrics` are sums over
    all labels, by sample name; `strangers` says whether a request without a key is answered."""

    url: str
    local: bool
    health: Answer
    ready: Answer
    models: Answer
    jobs: Mapping[str, Answer]
    model: str = ""
    plain: Written | None = None
    stream: Written | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    strangers: bool = False


def diagnose_live(live: Live) -> list[Finding]:
    """Every finding, in the order in which things depend on each other."""
    health = _health(live)
    if health.level == "problem":
        return [health]
    return [
        health,
        *_keys(live),
        *_ready(live),
        *_models(live),
        *_answers(live),
        *_load(live),
        *_jobs(live),
    ]


def _health(live: Live) -> Finding:
    if live.health.error:
        mend = "corral serve" if live.local else f"see that Corral runs at {live.url}"
        return Finding("health", "problem", live.health.error, mend)
    detail = f"{live.url} answers in {_ms(live.health.seconds)}"
    if live.health.seconds > SLOW_SECONDS:
        return Finding("health", "warning", detail, "end other programs on that machine")
    return Finding("health", "ok", detail)


def _keys(live: Live) -> Iterator[Finding]:
    refused = next((a for a in (live.models, live.ready) if a.status in (401, 403)), None)
    if refused is not None:
        mend = "give a key that may do this: CORRAL_API_KEYS=… corral doctor --live"
        yield Finding("keys", "problem", refused.error, mend)
    elif not live.strangers:
        yield Finding("keys", "ok", "a request without a key is refused")
    elif live.local:
        yield Finding("keys", "ok", "none needed; only this machine is served")
    else:
        detail = "anybody who reaches this address is served without a key"
        yield Finding("keys", "problem", detail, "corral keys create --name NAME")


def _ready(live: Live) -> Iterator[Finding]:
    if live.ready.status in (401, 403):
        return
    if live.ready.error:
        mend = "wait; else the server's log and logs/llama-server.log say why"
        yield Finding("ready", "problem", live.ready.error, mend)
        return
    sections: Mapping[str, str] = live.ready.content.get("sections", {})
    yield Finding("ready", "ok", ", ".join(f"{n} {state}" for n, state in sections.items()))
    for problem in live.ready.content.get("problems", []):
        detail, mend = problem["message"], "mend or remove that file"
        yield Finding(f"model {problem['name']}", "warning", detail, mend)


def _models(live: Live) -> Iterator[Finding]:
    if live.models.status in (401, 403):
        return
    if live.models.error:
        yield Finding("models", "problem", live.models.error, "see the server's log")
        return
    names: Sequence[str] = [entry["id"] for entry in live.models.content["data"]]
    if names:
        yield Finding("models", "ok", ", ".join(names))
    else:
        yield Finding("models", "problem", "there is none to ask", "corral models pull --help")


def _answers(live: Live) -> Iterator[Finding]:
    for area, written in (("completion", live.plain), ("stream", live.stream)):
        if written is None:
            continue
        if written.error:
            detail = f"`{live.model}`: {written.error}"
            mend = "the server's log has the request; logs/llama-server.log what llama-server said"
            yield Finding(area, "problem", detail, mend)
            continue
        first = f"first token after {_ms(written.first)}, " if area == "stream" else ""
        rate = f", {written.rate:.0f} tokens/s" if written.rate else ""
        detail = f"`{live.model}`: {first}{written.tokens} tokens in {_ms(written.last)}{rate}"
        yield Finding(area, "ok", detail)


def _load(live: Live) -> Iterator[Finding]:
    if not live.metrics:
        return
    sums = live.metrics
    busy, slots = sums.get("corral_slots_busy", 0), sums.get("corral_slots", 0)
    waiting = sums.get("corral_waiting", 0)
    detail = f"{busy:.0f} of {slots:.0f} slots in use, {waiting:.0f} requests wait"
    if waiting and slots and busy >= FULL * slots:
        mend = "raise `slots` where memory allows, or give the models another machine"
        yield Finding("load", "warning", detail, mend)
    else:
        yield Finding("load", "ok", detail)
    restarts = sums.get("corral_upstream_restarts_total", 0)
    if restarts:
        detail = f"llama-server ended by itself and was started again {restarts:.0f} times"
        yield Finding("restarts", "warning", detail, "logs/llama-server.log says why")


def _jobs(live: Live) -> Iterator[Finding]:
    refused = next((answer for answer in live.jobs.values() if answer.error), None)
    if refused is not None:
        mend = "give a key with the scopes training or admin" if refused.status == 403 else None
        level: Level = "warning" if refused.status == 403 else "problem"
        yield Finding("workers", level, refused.error, mend or "see the server's log")
        return
    rows = {status: answer.content["data"] for status, answer in live.jobs.items()}
    waiting = [row for row in rows.get("queued", []) if not row.get("paused")]
    running = rows.get("running", [])
    detail = f"{len(running)} jobs run, {len(waiting)} wait"
    if waiting and not running:
        mend = "corral worker, or serve with CORRAL_WORKER_COUNT=1"
        yield Finding("workers", "warning", f"{detail}: no worker takes them", mend)
    else:
        yield Finding("workers", "ok", detail)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
