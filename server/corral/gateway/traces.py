"""OpenTelemetry traces: one span per request, written when it has ended.

Off unless the environment names a receiver (`settings.traces_wanted`), and then nothing of it is even
imported. The SDK reads the rest of its own variables: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and others.
Spans hold what the log line holds: names of the catalogue, figures and codes, never what was said.
A client's `traceparent` is the parent; llama-server knows nothing of traces and is sent none.
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from corral.errors import SettingsError
from corral.gateway.accounting import Ended
from corral.gateway.context import RequestContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

SERVICE = "corral"
# Attributes of OpenTelemetry's conventions for generative models have fixed words for what was asked.
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/chat/completions": "chat",
    "/v1/responses": "chat",
    "/responses": "chat",
    "/v1/messages": "chat",
    "/messages": "chat",
    "/v1/completions": "text_completion",
    "/completions": "text_completion",
    "/infill": "text_completion",
    "/v1/embeddings": "embeddings",
    "/embeddings": "embeddings",
}
# Asked every few seconds by machines.
UNTRACED = frozenset({"/health", "/ready", "/metrics"})
FLUSH_SECONDS = 1.0


class Traces:
    """Writes spans through `provider`."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("corral.gateway")
        self._server = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)
        self._parent = TraceContextTextMapPropagator().extract

    def record(self, request: Ended) -> None:
        """The span of a request that has ended."""
        scope, context, route = request.scope, request.context, request.route
        if route in UNTRACED:
            return
        ended = int(request.at * 1e9)
        operation = OPERATIONS.get(route)
        name = f"{operation} {context.model}" if operation else f"{scope['method']} {route}"
        span = self._tracer.start_span(
            name,
            context=self._parent(_trace_headers(scope)),
            kind=self._server,
            start_time=ended - int(request.seconds * 1e9),
            attributes=_attributes(scope, context, route, operation),
        )
        if context.error and (context.status >= 500 or context.status == 200):
            span.set_status(self._failed)
        span.end(ended)

    def close(self) -> None:
        """Send what is left, for a moment at most: a receiver that is away must not hold up the end."""
        flush = threading.Thread(target=self._provider.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


def over_otlp() -> Traces:
    """Traces to the receiver that the environment names. Raises SettingsError without the packages."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed ({error}): "
            "`.venv/bin/pip install --no-deps --require-hashes -r requirements/otel.txt`, or unset the variable"
        ) from error
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


def _trace_headers(scope: Scope) -> dict[str, str]:
    wanted = (b"traceparent", b"tracestate")
    return {n.decode(): v.decode("latin-1") for n, v in scope["headers"] if n in wanted}


def _attributes(
    scope: Scope, context: RequestContext, route: str, operation: str | None
) -> Mapping[str, Any]:
    found: dict[str, Any] = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": context.status,
        "corral.request_id": context.id,
    }
    if context.error:
        found["error.type"] = context.error
    if context.outcome:
        found["corral.outcome"] = context.outcome
    if operation is not None and context.model:
        found |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "llama.cpp",
            "gen_ai.request.model": context.model,
            "gen_ai.response.model": context.model,
        }
    if context.queued is not None:
        found["corral.queue_seconds"] = context.queued
    if context.first_byte is not None:
        found["corral.time_to_first_byte_seconds"] = context.first_byte - context.began
    if (told := context.figures) is not None:
        found |= {
            "gen_ai.usage.input_tokens": told.prompt,
            "gen_ai.usage.output_tokens": told.generated,
            "gen_ai.usage.cache_read.input_tokens": told.cached,
        }
    return found
