"""A teacher model behind any OpenAI-compatible endpoint, asked through DSPy: by signatures, or with
the turns of a conversation as they are, which is what a fine-tuned teacher knows.

The endpoint is declared to DSPy as a provider of its own. So requests can go nowhere but to its
address, whatever the model is called and whatever OPENAI_… variables are set, and DSPy does not
fetch its table of prices (it knows none for such a provider). DSPy's cache is off: a journal
remembers what was asked.
"""

import logging
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from corral.datasets.rows import Message, text_of
from corral.datasets.sources.budget import Budget
from corral.datasets.sources.optional import load
from corral.datasets.sources.retry import PASSING, Passing, Patience, persist
from corral.datasets.sources.tasks import Task
from corral.errors import AuthenticationError, BadRequest, NotFound

_PROVIDER = "corral-teacher"
_PASSING_CODES = ("transport", "timeout", "server", "rate_limit", "provider")


class Garbled(Exception):
    """The teacher answered, but not with what the task asks for; the message says what came."""

    def __init__(self, message: str, tokens: int = 0) -> None:
        super().__init__(message)
        self.tokens = tokens


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
    """What came. `model` is what the server says it is."""

    text: str
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
        dspy = self._dspy
        adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)

        def predict(lm: Any) -> str:
            with dspy.context(lm=lm, adapter=adapter):
                found = dspy.Predict(self._signature(task))(**inputs)
            return str(found[task.output[0]])

        return self._persist(predict, seed)

    def chat(self, turns: Sequence[Message], seed: int, schema: Any = None) -> Reply:
        """Answer a conversation as it stands; servers that can are held to the schema. Raises as
        `ask` does."""
        lm15 = self._dspy.lm15
        where = self.endpoint
        config = lm15.Config(
            max_tokens=where.max_answer_tokens,
            temperature=where.temperature,
            seed=seed,
            response_format=None
            if schema is None
            else {"type": "json_schema", "name": "answer", "schema": schema},
        )
        roles = {"user": lm15.Message.user, "assistant": lm15.Message.assistant}
        said = [(turn.role, text_of(turn.content)) for turn in turns]
        request = lm15.Request(
            model=f"{_PROVIDER}/{where.model}",
            messages=tuple(roles[role](text) for role, text in said if role in roles),
            system="\n".join(text for role, text in said if role not in roles) or None,
            config=config,
        )
        return self._persist(lambda lm: str(lm(request).text or ""), seed)

    def _persist(self, call: Callable[[Any], str], seed: int) -> Reply:
        return persist(
            lambda: self._attempt(call, seed),
            f"{self.endpoint.model} at {self.endpoint.host}",
            patience=self._patience,
            sleep=self._sleep,
            random=self._random,
            report=self._report,
        )

    def _attempt(self, call: Callable[[Any], str], seed: int) -> Reply:
        dspy, where = self._dspy, self.endpoint
        self.budget.take_request()
        given = {"temperature": where.temperature} if where.temperature is not None else {}
        lm = dspy.LM(
            f"{_PROVIDER}/{where.model}", api_base=where.base_url, api_key=where.api_key,
            timeout=where.timeout, max_tokens=where.max_answer_tokens, seed=seed,
            engine="lm15", cache=False, num_retries=0, **given,
        )  # fmt: skip
        try:
            text = call(lm)
        except dspy.utils.exceptions.AdapterParseError as error:
            said = str(error.lm_response)[:80]
            raise Garbled(f"the fields are missing in {said!r}", self._count(lm)[1]) from None
        except dspy.utils.exceptions.LMError as error:
            raise self._explained(error) from None
        response, tokens = self._count(lm)
        if response.finish_reason == "length":
            raise Garbled(
                f"cut off after {where.max_answer_tokens} tokens (--max-answer-tokens)", tokens
            )
        return Reply(text.strip(), response.model, tokens)

    def _signature(self, task: Task) -> Any:
        dspy = self._dspy
        fields = {name: (str, dspy.InputField(desc=text)) for name, text in task.inputs.items()}
        name, text = task.output
        fields[name] = (str, dspy.OutputField(desc=text))
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
