"""A teacher model behind any OpenAI-compatible endpoint, asked through DSPy signatures.

The endpoint is declared to DSPy as a provider of its own. So requests can go nowhere but to its
address, whatever the model is called and whatever OPENAI_… variables are set, and DSPy does not
fetch its table of prices (it knows none for such a provider). DSPy's cache is off: a journal
remembers what was asked.
"""

import logging
import time
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from corral.datasets.sources.budget import Budget
from corral.datasets.sources.optional import load
from corral.datasets.sources.retry import PASSING, Passing, Patience, persist
from corral.datasets.sources.tasks import Task
from corral.errors import AuthenticationError, BadRequest, NotFound

_PROVIDER = "corral-teacher"
_PASSING_CODES = ("transport", "timeout", "server", "rate_limit", "provider")


class Garbled(Exception):
    """The teacher answered, but not with what the task asks for; the message says what came."""


class Endpoint(msgspec.Struct, frozen=True):
    """Which model, where. The key appears in no text of this object."""

    model: str
    base_url: str
    api_key: str = "none"
    temperature: float | None = None
    max_answer_tokens: int = 2048
    timeout: float = 300

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r}, {self.base_url!r})"

    @property
    def host(self) -> str:
        """The address without anything that could be secret."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]


class Reply(msgspec.Struct, frozen=True):
    """What a task gave. `model` is what the server says it is."""

    fields: dict[str, str]
    model: str
    tokens: int


def endpoint(base_url: str, model: str, **options: Any) -> Endpoint:
    """A checked endpoint. One `openai/` before the model's name, as DSPy users write it, is
    dropped. Raises BadRequest."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadRequest(
            f"{base_url!r} is no address of an OpenAI-compatible API; it looks like "
            "http://127.0.0.1:8000/v1",
            param="base_url",
        )
    if parts.username or parts.password:
        raise BadRequest("--base-url may hold no user or password", param="base_url")
    name = model.removeprefix("openai/")
    if not name:
        raise BadRequest("--model is empty; see the endpoint's /models", param="model")
    return Endpoint(name, base_url.rstrip("/"), **options)


class Teacher:
    """Asks one endpoint. May be used from several threads at once."""

    def __init__(
        self,
        endpoint: Endpoint,
        budget: Budget,
        *,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self._patience = patience or Patience()
        self._sleep = sleep
        self._report = report
        self._random = Random()
        self._dspy = load("dspy")
        # It warns of cut answers, which are refused here.
        logging.getLogger("dspy").setLevel(logging.ERROR)
        self._declare()

    def _declare(self) -> None:
        lm15 = self._dspy.lm15
        definition = lm15.ProviderDefinition.chat(
            lm15.AccessPolicy(provider=_PROVIDER, base_url=self.endpoint.base_url),
            # Every server knows this older name of the field; not all know the newer one.
            compat=lm15.OpenAIChatCompat(max_tokens_field="max_tokens"),
        )
        lm15.register_provider(definition, replace=True)

    def ask(self, task: Task, inputs: dict[str, str], seed: int) -> Reply:
        """Do a task once. Raises Garbled, Spent, or a CorralError when asking on is useless."""
        return persist(
            lambda: self._attempt(task, inputs, seed),
            f"{self.endpoint.model} at {self.endpoint.host}",
            patience=self._patience,
            sleep=self._sleep,
            random=self._random,
            report=self._report,
        )

    def _attempt(self, task: Task, inputs: dict[str, str], seed: int) -> Reply:
        dspy, where = self._dspy, self.endpoint
        self.budget.take_request()
        given = {"temperature": where.temperature} if where.temperature is not None else {}
        lm = dspy.LM(
            f"{_PROVIDER}/{where.model}", api_base=where.base_url, api_key=where.api_key,
            timeout=where.timeout, max_tokens=where.max_answer_tokens, seed=seed,
            engine="lm15", cache=False, num_retries=0, **given,
        )  # fmt: skip
        adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
        try:
            with dspy.context(lm=lm, adapter=adapter):
                fields = dspy.Predict(self._signature(task))(**inputs).toDict()
        except dspy.utils.exceptions.AdapterParseError as error:
            self._count(lm)
            raise Garbled(f"the fields are missing in {str(error.lm_response)[:80]!r}") from None
        except dspy.utils.exceptions.LMError as error:
            raise self._explained(error) from None
        response, tokens = self._count(lm)
        if response.finish_reason == "length":
            raise Garbled(f"cut off after {where.max_answer_tokens} tokens (--max-answer-tokens)")
        return Reply(
            {key: str(value).strip() for key, value in fields.items()}, response.model, tokens
        )

    def _signature(self, task: Task) -> Any:
        dspy = self._dspy
        fields = {name: (str, dspy.InputField(desc=text)) for name, text in task.inputs.items()}
        fields |= {name: (str, dspy.OutputField(desc=text)) for name, text in task.outputs.items()}
        return dspy.Signature(fields, task.instructions)

    def _count(self, lm: Any) -> tuple[Any, int]:
        """The response just received, and what it cost; servers may leave the latter out."""
        entry = lm.history[-1]
        tokens = (entry["usage"] or {}).get("total_tokens") or 0
        self.budget.add_tokens(tokens)
        return entry["response"], tokens

    def _explained(self, error: Any) -> Exception:
        said = str(error.message).split("\n\n  To fix")[0]
        status, where = error.status, f"{self.endpoint.model} at {self.endpoint.host}"
        if error.code in _PASSING_CODES or status in PASSING:
            return Passing(said, error.retry_after)
        if status in (401, 403):
            return AuthenticationError(
                f"{where} refuses the key ({status}: {said}); see --api-key-file"
            )
        if error.code == "context_window_exceeded":
            return Garbled(f"too long for the model's context: {said}")
        if status in (404, 405) or error.code == "unsupported_model":
            return NotFound(f"{where}: {status}: {said}; check --base-url (…/v1) and --model")
        return BadRequest(f"{where} refuses the request ({status}: {said})")
