"""Ask a running Corral what `corral doctor --live` reports: real requests, over HTTP."""

import json
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from corral.diagnosis_live import Answer, Live, Written
from corral.settings import Settings, is_loopback_name

SECONDS = 10.0
# A model that must first be loaded takes its time.
ANSWER_SECONDS = 180.0
TOKENS = 32
PROMPT = "Count from one to ten."


class Asker:
    """Requests to one address, with the first key of the settings where there is one."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        keys = settings.api_keys
        self._headers = {"Content-Type": "application/json"}
        self._key = {"Authorization": f"Bearer {keys[0].get_secret_value()}"} if keys else {}
        self._default = settings.default_model

    def look(self) -> Live:
        """Everything, one request after the other; never raises for what the server does."""
        health = self._get("/health")
        nothing = Answer(0.0)
        if health.error:
            return Live(self._url, self._local, health, nothing, nothing, {})
        models = self._get("/v1/models")
        model = self._chat_model(models.content)
        return Live(
            url=self._url,
            local=self._local,
            health=health,
            ready=self._get("/ready"),
            models=models,
            jobs={s: self._get(f"/corral/v1/jobs?status={s}") for s in ("queued", "running")},
            model=model,
            plain=self._plain(model) if model else None,
            stream=self._stream(model) if model else None,
            metrics=_sums(self._text("/metrics")),
            strangers=not self._get("/v1/models", anonymous=True).error,
        )

    @property
    def _local(self) -> bool:
        return is_loopback_name(urlsplit(self._url).hostname or "")

    def _chat_model(self, listed: Any) -> str:
        """The default model where it is served, else the first that writes."""
        entries = listed["data"] if listed else []
        writes = [e["id"] for e in entries if e.get("corral", {}).get("kind") != "embedding"]
        return self._default if self._default in writes else next(iter(writes), "")

    def _get(self, path: str, *, anonymous: bool = False) -> Answer:
        began = time.perf_counter()
        try:
            with self._open(path, anonymous=anonymous) as answer:
                return Answer(time.perf_counter() - began, json.load(answer), status=200)
        except HTTPError as error:
            return Answer(time.perf_counter() - began, None, _said(error), error.code)
        except (OSError, HTTPException, ValueError) as error:
            return Answer(time.perf_counter() - began, None, f"{self._url}{path}: {error}")

    def _text(self, path: str) -> str:
        try:
            with self._open(path) as answer:
                text: str = answer.read().decode()
                return text
        except (OSError, HTTPException, ValueError):
            return ""

    def _plain(self, model: str) -> Written:
        began = time.perf_counter()
        try:
            with self._ask(model, stream=False) as answer:
                whole = json.load(answer)
        except (OSError, HTTPException, ValueError) as error:
            return Written(0, 0, error=_said(error))
        took = time.perf_counter() - began
        rate = whole.get("timings", {}).get("predicted_per_second", 0)
        return Written(took, took, whole.get("usage", {}).get("completion_tokens", 0), rate)

    def _stream(self, model: str) -> Written:
        began = time.perf_counter()
        first, last, ended = 0.0, b"", False
        try:
            with self._ask(model, stream=True) as answer:
                for line in answer:
                    if line.startswith(b"data: {"):
                        first = first or time.perf_counter() - began
                        last = line
                    ended = ended or line.startswith(b"data: [DONE]")
            event = json.loads(last.removeprefix(b"data: ") or b"{}")
        except (OSError, HTTPException, ValueError) as error:
            return Written(0, 0, error=_said(error))
        if "error" in event or not (last and ended):
            broke = "the stream broke off"
            return Written(0, 0, error=event.get("error", {}).get("message", broke))
        timings = event.get("timings", {})
        took = time.perf_counter() - began
        rate = timings.get("predicted_per_second", 0)
        return Written(first, took, timings.get("predicted_n", 0), rate)

    def _ask(self, model: str, *, stream: bool) -> Any:
        messages = [{"role": "user", "content": PROMPT}]
        body = {"model": model, "messages": messages, "max_tokens": TOKENS, "stream": stream}
        raw = json.dumps(body).encode()
        return self._open("/v1/chat/completions", raw, seconds=ANSWER_SECONDS)

    def _open(
        self,
        path: str,
        body: bytes | None = None,
        *,
        anonymous: bool = False,
        seconds: float = SECONDS,
    ) -> Any:
        headers = self._headers | ({} if anonymous else self._key)
        return urlopen(Request(self._url + path, body, headers), timeout=seconds)


def _said(error: Exception) -> str:
    """Corral's own message where the answer is one of its errors."""
    if not isinstance(error, HTTPError):
        return str(error) or type(error).__name__
    with error:
        try:
            message: str = json.load(error)["error"]["message"]
        except (ValueError, KeyError, TypeError, OSError):
            return f"status {error.code}"
    return message


def _sums(text: str) -> dict[str, float]:
    """The samples of Prometheus' text format, summed over their labels."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            name = name.partition("{")[0]
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums
