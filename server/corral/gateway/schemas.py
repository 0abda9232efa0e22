"""JSON schemas in requests: which ones llama-server can hold an answer to, and a checker for it. Pure.

llama-server turns a schema into a grammar. At this commit some schemas make it end, fill the memory
or hang for every user, and many are followed only in part, without a word: `docs/structured-output.md`
lists them, tests/e2e/test_structured_limits.py shows them. So a schema is measured here first. The
limits on size are OpenAI's where it has one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jsonschema_rs

from corral.errors import BadRequest
from corral.gateway.patterns import looseness

INVALID = "invalid_json_schema"
MAX_DEPTH = 32
MAX_NODES = 5000
MAX_VALUES = 1000
MAX_TEXT = 120_000
# 30,000 characters that are no letters end llama-server: its regular expressions recurse.
MAX_NAME = 256
MAX_PATTERN = 2000
# Repetitions of varying length in one pattern; a date, an address or a URL has under ten.
MAX_LOOSE = 20
# llama-server's own: beyond it a lower bound is refused there, and an upper one forgotten.
MAX_REPEAT = 2000
# Rules of the grammar that bounded repetitions make, in all.
MAX_REPEATS = 50_000
# Of one object; the grammar grows with its square.
MAX_OPTIONAL = 500
# Ways to begin a value that are followed at once, at every token.
MAX_ALTERNATIVES = 1000
INT32, INT64 = 2**31 - 1, 2**63 - 1

# Ignored by the grammar, which then allows what the schema forbids, or forbids what it demands.
UNSUPPORTED = (
    "not", "if", "then", "else", "dependencies", "dependentRequired", "dependentSchemas",
    "patternProperties", "propertyNames", "contains", "minContains", "maxContains",
    "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
# What may stand beside `$ref`, `anyOf` and `oneOf`, where the grammar ignores all else.
BESIDE = {
    "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "type",
    "$defs", "definitions", "$schema", "$id", "$comment", "nullable", "discriminator",
}  # fmt: skip
ONE_SCHEMA = ("items", "additionalProperties")
SCHEMAS = ("properties", "$defs", "definitions")
ALTERNATIVES = ("anyOf", "oneOf", "allOf", "prefixItems")
REPEATED = re.compile(r"\{\s*(\d+)\s*,\s*(\d+)\s*\}")

Validator = jsonschema_rs.Validator
Schema = dict[str, Any]


def checker(schema: Any, where: str) -> Validator:
    """What checks a value against `schema`; BadRequest with the path where it is no JSON schema.

    Fetches nothing, and its regular expressions take linear time, whatever the pattern.
    """
    if not isinstance(schema, dict):
        raise BadRequest(f"`{where}` must be a JSON schema, an object", param=where, code=INVALID)
    try:
        return jsonschema_rs.validator_for(
            schema,
            offline=True,
            validate_formats=True,
            mask="this",
            pattern_options=jsonschema_rs.RegexOptions(size_limit=1024 * 1024),
        )
    except jsonschema_rs.ValidationError as error:
        at = path(where, error.instance_path)
        hint = (
            "; look-arounds and back-references are not supported" if "regex" in str(error) else ""
        )
        raise BadRequest(
            f"`{at}` is no valid JSON schema: {error.message}{hint}", param=at, code=INVALID
        ) from None
    except ValueError as error:
        raise BadRequest(
            f"`{where}` cannot be used as a schema: {error}", param=where, code=INVALID
        ) from None


def path(where: str, steps: Any) -> str:
    """`where` and the way from there, as OpenAI writes `param`: `a.b[0].c`."""
    return where + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def measure(schema: Schema, where: str, *, exact: bool) -> None:
    """Refuse a schema that would harm llama-server; with `exact`, also one that its grammar does not
    follow in shape. Rewrites, in place, what llama-server misreads and can be said otherwise."""
    size = _Size(schema, exact)
    size.visit(schema, where, 1)
    for node, at in size.seen:
        size.begin(node, at, 1)


@dataclass
class _Size:
    """What one schema adds up to."""

    root: Schema
    exact: bool
    values: int = 0
    text: int = 0
    repeats: int = 0
    seen: list[tuple[Schema, str]] = field(default_factory=list)
    begun: dict[int, int | None] = field(default_factory=dict)

    def visit(self, node: Any, where: str, depth: int) -> None:
        """Count one subschema and all inside it."""
        if not isinstance(node, dict):
            _refuse(where, "is no object; true, false and the like are not supported as schemas")
        _limit(where, "levels of nesting", depth, MAX_DEPTH)
        _limit(where, "subschemas in all", len(self.seen), MAX_NODES)
        _restate(node)
        self.seen.append((node, where))
        self._count_values(node, where)
        self._count_repeats(node, where)
        _check_bounds(node, where)
        if self.exact:
            _check_shape(node, where)
        for child, at in _children(node, where):
            self.visit(child, at, depth + 1)

    def _count_values(self, node: Schema, where: str) -> None:
        for key in SCHEMAS:
            for name in _object(node, key):
                _limit(f"{where}.{key}", "characters of a name", len(name), MAX_NAME)
                self.text += len(name)
        for key, most in (("pattern", MAX_PATTERN), ("$ref", MAX_NAME)):
            value = node.get(key)
            if isinstance(value, str):
                _limit(f"{where}.{key}", "characters", len(value), most)
        enum = node.get("enum")
        if isinstance(enum, list):
            if not enum:
                _refuse(f"{where}.enum", "is empty, so that no value fits")
            self.values += len(enum)
            self.text += sum(len(value) if isinstance(value, str) else 8 for value in enum)
        if isinstance(node.get("const"), str):
            self.text += len(node["const"])
        _limit(f"{where}.enum", "values of enums in all", self.values, MAX_VALUES)
        _limit(where, "characters of names and values in all", self.text, MAX_TEXT)
        optional = len(_object(node, "properties")) - len(_strings(node, "required"))
        _limit(f"{where}.properties", "properties that are not required", optional, MAX_OPTIONAL)

    def _count_repeats(self, node: Schema, where: str) -> None:
        for kind in ("Items", "Length"):
            low, high = _count(node, f"min{kind}", where), _count(node, f"max{kind}", where)
            _limit(f"{where}.min{kind}", "at least", low or 0, MAX_REPEAT)
            self.repeats += high if high is not None and high <= MAX_REPEAT else low or 0
        for low_text, high_text in REPEATED.findall(str(node.get("pattern", ""))):
            # A range the wrong way round fills the memory of llama-server.
            if int(low_text[:9]) > int(high_text[:9]):
                _refuse(
                    f"{where}.pattern", f"repeats {{{low_text},{high_text}}}, which is impossible"
                )
        loose = looseness(str(node.get("pattern", "")))
        at = f"{where}.pattern"
        _limit(at, "repetitions of varying length", loose, MAX_LOOSE)
        _limit(where, "bounded repetitions in all", self.repeats, MAX_REPEATS)

    def begin(self, node: Schema, where: str, hops: int) -> int:
        """In how many ways a value of `node` can begin."""
        if id(node) in self.begun:
            known = self.begun[id(node)]
            if known is None:
                _refuse(where, "refers to itself with nothing in between")
            return known
        _limit(where, "references in a row", hops, MAX_DEPTH)
        self.begun[id(node)] = None
        ways = sum(self._ways(node, where, hops + 1))
        _limit(where, "alternatives at one place", ways, MAX_ALTERNATIVES)
        self.begun[id(node)] = ways
        return ways

    def _ways(self, node: Schema, where: str, hops: int) -> Iterator[int]:
        if "$ref" in node:
            at = f"{where}.$ref"
            yield self.begin(self._target(node["$ref"], at), at, hops)
            return
        for key in ("oneOf", "anyOf", "allOf"):
            if isinstance(node.get(key), list):
                for index, child in enumerate(node[key]):
                    yield self.begin(child, f"{where}.{key}[{index}]", hops)
                return
        enum, kinds = node.get("enum"), node.get("type")
        yield len(enum) if isinstance(enum, list) else len(kinds) if isinstance(kinds, list) else 1

    def _target(self, ref: Any, where: str) -> Schema:
        found: Any = self.root
        steps = str(ref).split("/")
        if steps[0] != "#" or len(steps) < 2 or "~" in str(ref) or "%" in str(ref):
            _refuse(where, f"is `{ref}`; only plain references like `#/$defs/name` are supported")
        for step in steps[1:]:
            if isinstance(found, list) and step.isdigit() and int(step) < len(found):
                found = found[int(step)]
            elif isinstance(found, dict) and step in found:
                found = found[step]
            else:
                _refuse(where, f"is `{ref}`, which is not there")
        if not isinstance(found, dict):
            _refuse(where, f"is `{ref}`, which is no schema")
        target: Schema = found
        return target


def _children(node: Schema, where: str) -> Iterator[tuple[Any, str]]:
    for key in ONE_SCHEMA:
        if isinstance(node.get(key), dict):
            yield node[key], f"{where}.{key}"
    for key in SCHEMAS:
        for name, child in _object(node, key).items():
            yield child, f"{where}.{key}.{name}"
    for key in (*ALTERNATIVES, "items"):
        if isinstance(node.get(key), list):
            for index, child in enumerate(node[key]):
                yield child, f"{where}.{key}[{index}]"


def _restate(node: Schema) -> None:
    """The same schema in words that llama-server reads right."""
    # Pydantic 1 and OpenAPI wrap a reference like this; the grammar would demand an empty object.
    alone = node.get("allOf")
    lone = alone[0] if isinstance(alone, list) and len(alone) == 1 else None
    if isinstance(lone, dict) and "allOf" not in lone and node.keys() - {"allOf"} <= BESIDE:
        del node["allOf"]
        node.update({**lone, **node})
    # A tuple ends with its last item in the grammar anyhow.
    tuple_of = node.get("prefixItems")
    if node.get("items") is False and isinstance(tuple_of, list):
        del node["items"]
        node["maxItems"] = len(tuple_of)
    if node.get("items") is True:
        node["items"] = {}
    properties = _object(node, "properties")
    for name in [name for name, child in properties.items() if child is True]:
        properties[name] = {}


def _check_bounds(node: Schema, where: str) -> None:
    """Bounds that contradict each other, which the grammar turns into nonsense or worse."""
    for low_key, high_key in (
        ("minItems", "maxItems"),
        ("minLength", "maxLength"),
        ("minimum", "maximum"),
    ):
        low, high = node.get(low_key), node.get(high_key)
        if _is_number(low) and _is_number(high) and low > high:  # type: ignore[operator]
            _refuse(f"{where}.{low_key}", f"is {low}, above `{high_key}`, which is {high}")
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        value = node.get(key)
        if "number" not in _types(node) and _is_number(value) and abs(value) >= INT64:  # type: ignore[arg-type]
            _refuse(f"{where}.{key}", f"is {value}, beyond 64 bits")


def _check_shape(node: Schema, where: str) -> None:
    """What the grammar would ignore although it decides the shape of the answer."""
    for key in UNSUPPORTED:
        if key in node:
            _refuse(f"{where}.{key}", "is not supported in structured output")
    for key in ("$ref", "anyOf", "oneOf", "allOf"):
        beside = sorted(node.keys() - BESIDE - {key})
        if key in node and beside:
            _refuse(f"{where}.{beside[0]}", f"is not supported beside `{key}`; move it inside")
    for index, part in enumerate(node.get("allOf", ())):
        if isinstance(part, dict) and not part.keys() & {"$ref", "properties"}:
            _refuse(f"{where}.allOf[{index}]", "is no object with properties, as allOf needs here")
    missing = [
        name for name in _strings(node, "required") if name not in _object(node, "properties")
    ]
    if missing:
        _refuse(f"{where}.required", f"names `{missing[0][:80]}`, which is not in `properties`")
    if "prefixItems" in node and "items" in node:
        _refuse(f"{where}.items", "is not supported beside `prefixItems`")


def _types(node: Schema) -> list[Any]:
    kinds = node.get("type")
    return kinds if isinstance(kinds, list) else [kinds]


def _object(node: Schema, key: str) -> dict[str, Any]:
    value = node.get(key)
    return value if isinstance(value, dict) else {}


def _strings(node: Schema, key: str) -> list[str]:
    value = node.get(key)
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _count(node: Schema, key: str, where: str) -> int | None:
    value = node.get(key)
    if not _is_number(value):
        return None
    _limit(f"{where}.{key}", "at most", value, INT32)  # type: ignore[arg-type]
    return int(value)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _limit(where: str, what: str, value: float, most: int) -> None:
    if value > most:
        _refuse(where, f"is too large for structured output: {value} {what}, {most} are allowed")


def _refuse(where: str, why: str) -> NoReturn:
    raise BadRequest(f"`{where}` {why}", param=where, code=INVALID)
