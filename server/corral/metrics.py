"""Every metric, its labels and its buckets, in one place."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

# From a tokenise call to a long answer on a slow machine.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

__all__ = ["CONTENT_TYPE", "Metrics"]


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "corral_requests",
            "Requests answered, by route pattern, model and HTTP status.",
            ("route", "model", "status"),
            registry=self.registry,
        )
        self.errors = Counter(
            "corral_errors",
            "Errors by code, those told inside a stream included.",
            ("route", "code"),
            registry=self.registry,
        )
        self.duration = Histogram(
            "corral_request_seconds",
            "Time from the request's first byte to the answer's last.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.ttft = Histogram(
            "corral_time_to_first_byte_seconds",
            "Time to the first byte of an answer's body: of a stream, the first token.",
            ("route", "model"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "corral_in_flight", "Requests being answered now.", registry=self.registry
        )
        self.upstream_restarts = Counter(
            "corral_upstream_restarts",
            "Times that llama-server ended by itself and was started again.",
            registry=self.registry,
        )

    def observe(
        self,
        route: str,
        model: str,
        status: int,
        error: str,
        seconds: float,
        ttft: float | None,
    ) -> None:
        """Count one finished request. `model` is a catalogue name or empty, never client text."""
        self.requests.labels(route, model, str(status)).inc()
        self.duration.labels(route).observe(seconds)
        if error:
            self.errors.labels(route, error).inc()
        if ttft is not None:
            self.ttft.labels(route, model).observe(ttft)

    def render(self) -> bytes:
        """The text format, for GET /metrics."""
        return generate_latest(self.registry)
