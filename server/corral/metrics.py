"""Every metric, its labels and its buckets, in one place.

Labels hold route patterns, names of the catalogue, statuses and codes of Corral's own: never what a
client has sent. Two kinds: what a request leaves behind is counted as it ends (`observe`, `spent`,
`queued`); what is so now is set as it is asked for (`render`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

# From a tokenise call to a long answer on a slow machine.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# From a large model on an old laptop to a prompt on a GPU.
RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)

# The time at which each series began, as a series of its own: nobody asks for it, and it doubles the text.
disable_created_metrics()  # type: ignore[no-untyped-call]

__all__ = ["CONTENT_TYPE", "Metrics", "Now"]


@dataclass(frozen=True)
class Now:
    """What is so at this moment. By model: `running`, `waiting`; by section: `slots`, `busy`, `states`;
    by kind and status: `jobs`."""

    running: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    busy: Mapping[str, int] = field(default_factory=dict)
    states: Mapping[str, int] = field(default_factory=dict)
    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._requests()
        self._tokens()
        self._now()

    def _requests(self) -> None:
        self.requests = self._counter(
            "corral_requests",
            "Requests answered, by route pattern, model and HTTP status.",
            ("route", "model", "status"),
        )
        self.errors = self._counter(
            "corral_errors",
            "Errors by code, those told inside a stream included.",
            ("route", "code"),
        )
        self.refused = self._counter(
            "corral_refused",
            "Requests refused with status 429, by model and code: `queue_full` is a full queue.",
            ("model", "code"),
        )
        self.duration = self._histogram(
            "corral_request_seconds",
            "Time from the request's first byte to the answer's last.",
            ("route",),
        )
        self.ttft = self._histogram(
            "corral_time_to_first_byte_seconds",
            "Time to the first byte of an answer's body: of a stream, the first token.",
            ("route", "model"),
        )
        self.queue_seconds = self._histogram(
            "corral_queue_seconds", "Time that a request waited for a slot.", ("model",)
        )
        self.upstream_restarts = self._counter(
            "corral_upstream_restarts",
            "Times that llama-server ended by itself and was started again.",
        )

    def _tokens(self) -> None:
        model = ("model",)
        self.prompt_tokens = self._counter(
            "corral_prompt_tokens", "Tokens of prompts, those in the cache included.", model
        )
        self.cached_tokens = self._counter(
            "corral_cached_tokens", "Tokens of prompts that the cache had.", model
        )
        self.generated_tokens = self._counter(
            "corral_generated_tokens",
            "Tokens written; of an answer that broke off, the pieces that had come.",
            model,
        )
        self.prompt_rate = self._histogram(
            "corral_prompt_tokens_per_second",
            "Of one answer: tokens of the prompt that the cache did not have, per second.",
            model,
            RATES,
        )
        self.generation_rate = self._histogram(
            "corral_generated_tokens_per_second",
            "Of one answer: tokens written per second of writing.",
            model,
            RATES,
        )

    def _now(self) -> None:
        self.in_flight = self._gauge("corral_in_flight", "Requests being answered now.")
        self._live = {
            "running": self._gauge("corral_running", "Requests in a slot now.", ("model",)),
            "waiting": self._gauge("corral_waiting", "Requests that wait for a slot.", ("model",)),
            "slots": self._gauge("corral_slots", "Slots of an instance.", ("section",)),
            "busy": self._gauge("corral_slots_busy", "Slots of it in use now.", ("section",)),
            "states": self._gauge("corral_instances", "Instances by state.", ("state",)),
            "jobs": self._gauge("corral_jobs", "Jobs that wait or run.", ("kind", "status")),
        }

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
        self._of(self.requests, route, model, str(status)).inc()
        self._of(self.duration, route).observe(seconds)
        if error:
            self._of(self.errors, route, error).inc()
        if status == 429:
            self._of(self.refused, model, error).inc()
        if ttft is not None:
            self._of(self.ttft, route, model).observe(ttft)

    def spent(
        self,
        model: str,
        prompt: int,
        cached: int,
        generated: int,
        prompt_seconds: float,
        generation_seconds: float,
    ) -> None:
        """Count the tokens of one answer; seconds of 0 are not known."""
        self._of(self.prompt_tokens, model).inc(prompt)
        self._of(self.cached_tokens, model).inc(cached)
        self._of(self.generated_tokens, model).inc(generated)
        if prompt_seconds > 0:
            self._of(self.prompt_rate, model).observe((prompt - cached) / prompt_seconds)
        if generation_seconds > 0:
            self._of(self.generation_rate, model).observe(generated / generation_seconds)

    def queued(self, model: str, seconds: float) -> None:
        """Count one request's wait for its slot."""
        self._of(self.queue_seconds, model).observe(seconds)

    def render(self, now: Now) -> bytes:
        """The text format, for GET /metrics."""
        for name, gauge in self._live.items():
            gauge.clear()
            for labels, value in getattr(now, name).items():
                gauge.labels(*(labels if isinstance(labels, tuple) else (labels,))).set(value)
        return generate_latest(self.registry)

    def _of(self, metric: Any, *labels: str) -> Any:
        """The metric with these labels. `labels()` takes a lock and makes a tuple of strings anew: half
        of a request's metrics were spent there."""
        key = (metric, *labels)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = metric.labels(*labels)
        return kept

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, help_text, labels, registry=self.registry)

    def _histogram(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...],
        buckets: tuple[float, ...] = SECONDS,
    ) -> Histogram:
        return Histogram(name, help_text, labels, buckets=buckets, registry=self.registry)
