"""Jinja templates that turn a record into a prompt and the JSON it should be answered with.

A template is one file with the blocks `user` and `assistant`, and `system` where there is a system
turn. The record is `record`; a field it does not have is empty, at any depth. A record whose
`user` block comes out empty is passed over. The `assistant` block is JSON text with holes:

    {% block user %}For {{ record.title }}{% endblock %}
    {% block assistant %}{"title": {{ record.title | tojson }}}{% endblock %}

Filters beside Jinja's own: `tojson` (exact, no HTML escapes; null for what is missing),
`each("a", "b")` (a list of objects, each with just these keys), `isbd` (without the punctuation
with which catalogues end an element). Templates are sandboxed: they read no files and call
nothing but filters and harmless methods.
"""

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from corral.datasets.sources.optional import load
from corral.datasets.strict_json import BadJSON, decode_row
from corral.errors import BadRequest, InvalidData, NotFound

_json = json.JSONEncoder(ensure_ascii=False).encode


class Filled(msgspec.Struct, frozen=True):
    """What a template makes of one record. `answer` is JSON text of an object."""

    system: str
    user: str
    answer: str


class Template:
    """A parsed template. Raises BadRequest when it is none."""

    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name
        self._jinja = load("jinja2")
        try:
            template = _environment().from_string(source)
        except self._jinja.TemplateSyntaxError as error:
            raise BadRequest(f"template {name}, line {error.lineno}: {error.message}") from None
        missing = [block for block in ("user", "assistant") if block not in template.blocks]
        if missing:
            raise BadRequest(
                f"template {name} has no block {' and no block '.join(missing)}; a template has the "
                "blocks user and assistant, and may have system"
            )
        self._template = template

    def fill(self, record: dict[str, Any]) -> Filled | None:
        """The template filled with a record; None when the record is to be passed over.

        Raises InvalidData when the template fails on it or its answer is not a JSON object.
        """
        user = self._block("user", record)
        if not user:
            return None
        try:
            answer = decode_row(self._block("assistant", record).encode())
        except BadJSON as bad:
            raise InvalidData(
                f"template {self.name}, block assistant, record {record.get('id')}: {bad.message}"
            ) from None
        return Filled(self._block("system", record), user, _json(answer))

    def _block(self, name: str, record: dict[str, Any]) -> str:
        if name not in self._template.blocks:
            return ""
        context = self._template.new_context({"record": record})
        try:
            return "".join(self._template.blocks[name](context)).strip()
        # What a template can do to a record is not bounded: 1/0, wrong types, wrong arguments.
        except (
            self._jinja.TemplateError, TypeError, ValueError, ArithmeticError, LookupError,
        ) as error:  # fmt: skip
            raise InvalidData(
                f"template {self.name}, block {name}, record {record.get('id')}: {error}"
            ) from None


def bundled(name: str) -> Template:
    """A template that comes with Corral."""
    file = files("corral.datasets.sources") / "templates" / name
    return Template(file.read_text(encoding="utf-8"), name)


def from_file(path: Path) -> Template:
    """A user's own template."""
    try:
        return Template(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise NotFound(f"cannot read template {path}: {error.strerror}", param="template") from None
    except UnicodeDecodeError:
        raise BadRequest(f"template {path} is not UTF-8", param="template") from None


def _environment() -> Any:
    jinja, sandbox = load("jinja2"), load("jinja2.sandbox")
    environment = sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja.ChainableUndefined, autoescape=False
    )
    look_up = environment.getattr
    undefined = jinja.Undefined

    def key_before_method(value: Any, name: str) -> Any:
        # Else record.items would be a method of dict, never FOLIO's field of that name.
        return value[name] if isinstance(value, dict) and name in value else look_up(value, name)

    def to_json(value: Any) -> str:
        return _json(None if isinstance(value, undefined) else value)

    environment.getattr = key_before_method
    environment.filters.update(tojson=to_json, each=each, isbd=without_isbd)
    return environment


def each(items: Any, *keys: str) -> list[dict[str, Any]]:
    """Of every object the keys given, null where it has none. A bare text counts as the first of
    the keys: older FOLIO releases have subjects as texts."""
    if not isinstance(items, Iterable) or isinstance(items, str | dict):
        return []
    nothing: dict[str, Any] = dict.fromkeys(keys)
    return [
        {**nothing, **{key: item[key] for key in keys if key in item}}
        if isinstance(item, dict)
        else {**nothing, **({keys[0]: item} if isinstance(item, str) else {})}
        for item in items
    ]


def without_isbd(text: Any) -> str:
    """The text without the punctuation that leads to the next element: `Cham :` is `Cham`."""
    return text.strip().rstrip(":;,/=").rstrip() if isinstance(text, str) else ""
