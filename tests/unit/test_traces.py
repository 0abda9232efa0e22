"""Spans of requests, read back from the SDK's own exporter in memory."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Message, Receive, Scope, Send

from corral import settings
from corral.errors import NotReady, SettingsError
from corral.gateway import traces
from corral.gateway.accounting import Accounting
from corral.gateway.context import ContextMiddleware, RequestContext
from corral.gateway.figures import Figures
from corral.metrics import Metrics
from tests.fakes.asgi import call

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Route:
    def __init__(self, path: str) -> None:
        self.path = path


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An inference route: notes what the real one notes."""
    context = RequestContext.of(scope)
    scope["route"] = Route(scope["path"])
    context.model, context.queued = "tiny", 0.25
    if b"x-fail" in dict(scope["headers"]):
        raise NotReady("not now")
    context.spent(Figures(10, 4, 6, 0.1, 0.5))
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": b"what was said"})


async def spans(path: str, **headers: str) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made = traces.Traces(provider)
    accounting = Accounting(Metrics(), made.record)
    app = ContextMiddleware(answer, accounting)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await call(app, "POST", path, b'{"secret":"what was asked"}', named)
    accounting.settle()
    return list(exporter.get_finished_spans())


async def test_a_request_is_one_span_with_the_fixed_words_for_models() -> None:
    (span,) = await spans("/v1/chat/completions", traceparent=f"00-{TRACE}-{PARENT}-01")
    assert span.name == "chat tiny"
    found: dict[str, Any] = dict(span.attributes or {})
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model"] == "tiny"
    assert found["gen_ai.usage.input_tokens"] == 10
    assert found["gen_ai.usage.output_tokens"] == 6
    assert found["gen_ai.usage.cache_read.input_tokens"] == 4
    assert found["corral.queue_seconds"] == 0.25
    assert found["http.response.status_code"] == 200
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < span.end_time - span.start_time < 5e9
    assert "what was" not in json.dumps(found)


async def test_an_error_is_an_error_span_with_its_code() -> None:
    (span,) = await spans("/v1/embeddings", x_fail="1")
    assert span.name == "embeddings tiny"
    assert not span.status.is_ok
    assert (span.attributes or {})["error.type"] == "not_ready"


async def test_a_parent_that_is_none_is_no_parent() -> None:
    (span,) = await spans("/v1/models", traceparent="made up\n")
    assert span.parent is None
    assert span.name == "POST /v1/models"


async def test_what_machines_ask_all_the_time_is_left_out() -> None:
    assert await spans("/health") == []


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_off_unless_a_receiver_is_named(
    variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.traces_wanted() is wanted
    assert not any(name.startswith("OTEL_") for name in settings.child_environment({}))


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(SettingsError, match=r"requirements/otel.txt"):
        traces.over_otlp()


def test_a_receiver_that_is_away_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    made = traces.over_otlp()
    made._provider.get_tracer("x").start_span("s").end()
    assert made._provider.resource.attributes["service.name"] == "corral"
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < traces.FLUSH_SECONDS + 1
