"""What a request demands of its answer's form, and whether an answer has it. Pure.

llama-server holds an answer to a schema by a grammar, and says nothing where the grammar leaves a
part of the schema out, where the model's chat template cannot carry tools, or where a field is not
read on that route. So whoever asks for a form gets an answer of that form, or an error. Requests that
ask for none pay one look at their keys.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jsonschema_rs

from corral.errors import BadRequest, CorralError, UpstreamError
from corral.gateway import grammars
from corral.gateway.answers import Answer
from corral.gateway.schemas import INVALID, Validator, checker, measure, path
from corral.gateway.sse import Dialect

FORMATS = ("text", "json_object", "json_schema")
# Other servers' names for the same wish, which llama-server passes over in silence.
FOREIGN = (
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_decoding_backend",
    "structured_outputs", "output_format",
)  # fmt: skip
ASKS = frozenset(
    {"response_format", "json_schema", "tools", "grammar", "grammar_triggers", *FOREIGN}
)
ANY_OBJECT: dict[str, Any] = {"type": "object"}
MAX_SHOWN = 300
# Greedy sampling would give the same answer again.
WARM = 0.5


class UnfitAnswer(UpstreamError):
    """The model's answer breaks the form that was asked for. SDKs would ask again; Corral has."""

    default_code = "invalid_structured_output"


@dataclass(frozen=True)
class Form:
    """What an answer must be. `text` checks its text, `calls` the arguments of its tool calls by
    the tool's name; the params name the request's fields. `must_call`: text alone will not do."""

    text: Validator | None
    text_param: str
    calls: Mapping[str, tuple[Validator | None, str]]
    must_call: bool

    def check(self, answer: Answer) -> UnfitAnswer | None:
        """Why `answer` will not do; None when it will. One that was cut off at its length limit
        says so itself, as OpenAI's do: what was being written then passes."""
        if self.must_call and not answer.calls and not answer.cut:
            return unfit("the model called no tool, though `tool_choice` demands it", "tool_choice")
        for name, arguments in answer.calls[:-1] if answer.cut else answer.calls:
            if fault := self._check_call(name, arguments):
                return fault
        if self.text is None or answer.calls or answer.cut:
            return None
        return _fault(self.text, answer.text, "the answer", self.text_param)

    def require(self, answers: Iterable[Answer]) -> None:
        """Raise UnfitAnswer for the first of `answers` that will not do."""
        for answer in answers:
            if fault := self.check(answer):
                raise fault

    def _check_call(self, name: str, arguments: Any) -> UnfitAnswer | None:
        if not self.calls:
            return None
        if name not in self.calls:
            return unfit(f"the model called `{name[:80]}`, which is not in `tools`", "tools")
        validator, param = self.calls[name]
        if validator is None:
            return None
        return _fault(validator, arguments, f"the call of `{name}`", param)


def unfit(why: str, param: str) -> UnfitAnswer:
    """The error for an answer that will not do."""
    return UnfitAnswer(why, param=param, headers={"x-should-retry": "false"})


def _fault(validator: Validator, value: Any, what: str, param: str) -> UnfitAnswer | None:
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return unfit(f"{what} is not valid JSON", param)
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        at = path("$", error.instance_path)
        return unfit(f"{what} breaks its schema at {at}: {error.message[:MAX_SHOWN]}", param)
    except ValueError as error:
        return unfit(f"{what} holds a value that no schema can check: {error}", param)
    return None


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def form_of(
    body: dict[str, Any], dialect: Dialect, *, chat: bool, grammar_allowed: bool = True
) -> Form | None:
    """What `body`, after `compat.reconcile`, demands of its answer; None where it is nothing that
    must be checked. Raises BadRequest for what cannot be promised. `chat`: the route is one of
    messages, which have tools and formats. `grammar_allowed`: see `grammars`."""
    if ASKS.isdisjoint(body):
        return None
    _refuse_foreign(body)
    if body.get("grammar") == "":
        # Beside a schema it would count, and leave the answer free.
        del body["grammar"]
    grammars.check(body, allowed=grammar_allowed)
    text, text_param = _text(body, dialect, chat=chat)
    must_call = _must_call(body)
    calls = _calls(body, must_call) if chat else {}
    if text is None and not must_call and not any(validator for validator, _ in calls.values()):
        return None
    return Form(text, text_param, calls, must_call)


def _refuse_foreign(body: Mapping[str, Any]) -> None:
    for key in FOREIGN:
        if body.get(key):
            raise BadRequest(
                f"`{key}` is not supported and would be passed over; use `response_format` on "
                "/v1/chat/completions, `text.format` on /v1/responses, or a tool",
                param=key,
            )


def _text(body: dict[str, Any], dialect: Dialect, *, chat: bool) -> tuple[Validator | None, str]:
    """The checker of the text, and the field that asked for it."""
    schema, where = _schema(body, dialect, chat=chat)
    if schema is None:
        return None, where
    if "grammar" in body:
        raise BadRequest(f"`grammar` and `{where}` exclude each other; send one", param="grammar")
    if isinstance(schema, dict):
        measure(schema, where, exact=True)
    return checker(schema or ANY_OBJECT if isinstance(schema, dict) else schema, where), where


def _schema(body: Mapping[str, Any], dialect: Dialect, *, chat: bool) -> tuple[Any, str]:
    wanted = body.get("response_format")
    if wanted is None:
        return body.get("json_schema"), "json_schema"
    if not chat or dialect == "anthropic":
        known = "use `json_schema`" if not chat else "use a tool and `tool_choice`"
        raise BadRequest(
            f"`response_format` is not supported on this route and would be passed over; {known}",
            param="response_format",
        )
    kind = wanted.get("type")
    if kind not in FORMATS:
        raise BadRequest(
            f"`response_format.type` must be one of {', '.join(FORMATS)}, not {kind!r}",
            param="response_format.type",
        )
    if kind == "text":
        return body.get("json_schema"), "json_schema"
    if kind == "json_object":
        return wanted.get("schema", body.get("json_schema", {})), "response_format.schema"
    wrapped = wanted.get("json_schema")
    if not isinstance(wrapped, dict):
        raise BadRequest(
            "`response_format.json_schema` must be an object with `name` and `schema`",
            param="response_format.json_schema",
        )
    return wrapped.get("schema", {}), "response_format.json_schema.schema"


def _must_call(body: Mapping[str, Any]) -> bool:
    choice = body.get("tool_choice")
    if not body.get("tools"):
        return False
    return choice == "required" or (isinstance(choice, dict) and choice.get("type") == "any")


def _calls(body: Mapping[str, Any], forced: bool) -> dict[str, tuple[Validator | None, str]]:
    """Every tool's checker; None for arguments that nobody demanded to be right."""
    found: dict[str, tuple[Validator | None, str]] = {}
    if body.get("tool_choice") == "none":
        return found
    for index, tool in enumerate(body.get("tools", ())):
        name, schema, strict, where = _tool(tool, f"tools[{index}]")
        if isinstance(schema, dict):
            measure(schema, where, exact=strict)
        wanted = (forced or strict) and schema is not None
        found[name] = (checker(schema, where) if wanted else None, where)
    return found


def _tool(tool: Any, where: str) -> tuple[str, Any, bool, str]:
    """Name, schema, strictness and the schema's path, of chat's nested shape, of Responses' flat one,
    and of Anthropic's."""
    if not isinstance(tool, dict):
        raise BadRequest(f"`{where}` must be an object", param=where)
    inner = tool.get("function")
    if isinstance(inner, dict):
        tool, where = (
            {**inner, "strict": inner.get("strict", tool.get("strict"))},
            f"{where}.function",
        )
    key = "input_schema" if "input_schema" in tool else "parameters"
    return str(tool.get("name", "")), tool.get(key), tool.get("strict") is True, f"{where}.{key}"


def another_try(body: bytes) -> bytes:
    """The same request with another seed, and warm enough for the seed to matter."""
    fields = json.loads(body)
    fields["seed"] = secrets.randbits(31)
    if fields.get("temperature") == 0:
        fields["temperature"] = WARM
    return json.dumps(fields, separators=(",", ":")).encode()


def as_unfit(error: CorralError, form: Form | None) -> CorralError:
    """llama-server's own complaints, that an answer does not fit its grammar or that it cannot use the
    grammar, in the words of the request."""
    if form is None:
        return error
    param = form.text_param if form.text else "tools"
    if error.code == "bad_output":
        return unfit(error.message, param)
    if "failed to parse grammar" in error.message:
        return BadRequest(
            f"llama-server cannot follow the schema of `{param}`; simplify names and patterns",
            param=param,
            code=INVALID,
        )
    return error
