"""Which generated prompts and answers are worth keeping: pure checks, each with a reason."""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from corral.datasets.near_duplicates import signature
from corral.datasets.sources.optional import load
from corral.datasets.strict_json import BadJSON, decode_row
from corral.errors import BadRequest, InvalidData

# Shorter answers, like yes and no or a class, repeat by nature; a longer one that does comes from
# a teacher that is stuck.
_REPEATABLE_CHARS = 40
_ALIKE = 0.85
_LEAST_WORDS_TO_COMPARE = 4
# Words of the task that models copy instead of doing it.
_COPIED = ("new_request", "new request", "given request", "rewritten request", "[[ ##")


class Accepted:
    """What was kept so far. `prompt` and `answer` return a reason against, or remember."""

    def __init__(self) -> None:
        self._marks: set[str] = set()
        self._prompts: set[str] = set()
        self._signatures: np.ndarray[tuple[int, int], np.dtype[np.uint16]]
        self._signatures = np.empty((64, 64), np.uint16)
        self._signed = 0

    def prompt(self, text: str, parent: str = "") -> str | None:
        """Why a new prompt is not kept: too short, copied from the task, or there already."""
        plain = _plain(text)
        if len(plain) < 3:
            return "empty_prompt"
        if any(word in plain and word not in _plain(parent) for word in _COPIED):
            return "copied_task"
        if plain in self._prompts:
            return "duplicate_prompt"
        if len(plain.split()) >= _LEAST_WORDS_TO_COMPARE and self._near(text):
            return "near_duplicate_prompt"
        self.know_prompt(text)
        return None

    def know_prompt(self, text: str) -> None:
        """A prompt that is there, whatever it is like."""
        self._prompts.add(_plain(text))
        if self._signed == len(self._signatures):
            self._signatures = np.concatenate((self._signatures, self._signatures))
        self._signatures[self._signed] = signature(text)
        self._signed += 1

    def answer(self, found: list[str]) -> str | None:
        """Why an answer, known by its `marks`, is not kept: empty, given to this prompt before,
        or to another."""
        if not found:
            return "empty_answer"
        if found[0] in self._marks:
            return "duplicate_row"
        if found[-1] in self._marks:
            return "repeated_answer"
        self.know_answer(found)
        return None

    def know_answer(self, found: list[str]) -> None:
        """An answer that is there."""
        self._marks.update(found)

    def _near(self, text: str) -> bool:
        known = self._signatures[: self._signed]
        alike = (known == signature(text)).mean(axis=1)
        return bool((alike >= _ALIKE).any())


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def marks(prompt: str, answer: str) -> list[str]:
    """What an answer is known by: a hash of it with its prompt, and when it is long enough that
    another prompt should not get it too, a hash of it alone. Empty for an empty answer."""
    if not answer.strip():
        return []
    pair = _hash(f"{_plain(prompt)}\0{_plain(answer)}")
    return [pair, _hash(_plain(answer))] if len(answer) > _REPEATABLE_CHARS else [pair]


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=12).hexdigest()


class Schema:
    """A JSON Schema that answers have to fit."""

    def __init__(self, value: Any, name: str) -> None:
        library = load("jsonschema")
        validator = library.validators.validator_for(value, library.Draft202012Validator)
        try:
            validator.check_schema(value)
        except library.SchemaError as error:
            raise BadRequest(f"schema {name}: {error.message}", param="schema") from None
        self.value = value
        self.text = json.dumps(value, ensure_ascii=False)
        # An empty registry: a $ref to the network is an error, not a download.
        registry = load("referencing").Registry()
        self._validator = validator(value, registry=registry)
        self._unresolvable = load("referencing.exceptions").Unresolvable

    def check(self, text: str) -> tuple[str, str | None]:
        """The answer as compact JSON text, and None; or the answer as it came, and what is wrong."""
        text = without_fence(text)
        try:
            value = json_value(text)
        except BadJSON as bad:
            return text, f"the answer is not JSON: {bad.message}"
        try:
            error = next(iter(self._validator.iter_errors(value)), None)
        except self._unresolvable as unresolved:
            raise BadRequest(
                f"the schema points to {unresolved.ref}, which is not in the file; put it there",
                param="schema",
            ) from None
        if error is not None:
            return text, f"at {error.json_path}: {error.message}"[:300]
        return json.dumps(value, ensure_ascii=False), None


def schema_from_file(path: Path) -> Schema:
    """The schema in a file. Raises InvalidData or BadRequest."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(f"cannot read schema {path}: {error.strerror}", param="schema") from None
    except ValueError as error:
        raise InvalidData(f"schema {path} is not JSON: {error}", param="schema") from None
    return Schema(value, str(path))


def json_value(text: str) -> Any:
    """The one JSON value that a text is. Raises BadJSON."""
    if text.startswith("{"):
        return decode_row(text.encode())
    row = decode_row(b'{"value":' + text.encode() + b"}")
    if len(row) > 1:
        raise BadJSON("bad_json", "more follows after the JSON value")
    return row["value"]


def without_fence(text: str) -> str:
    """The text without the code fence that models put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text.partition("\n")[2].removesuffix("```").strip()
    return text
