"""A client's own grammar, in llama.cpp's language: who may send one, and what is refused to everybody because
it would end llama-server, fill its memory or hang it. Pure.

Not covered: grammars that hang it all the same, see `grammar_cost`.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from corral.caller import Caller
from corral.errors import BadRequest, PermissionDenied
from corral.gateway.body import kind_of
from corral.gateway.grammar_cost import Unreadable, repetition, steps, tokens

MAX_LENGTH = 65_536
# 100,000 brackets end llama-server, which recurses; 1,000 do not.
MAX_DEPTH = 200
# Rules that double pass it after sixteen; a list of 1,000 names has 30,000.
MAX_STEPS = 100_000
# `grammar_triggers` hold patterns for the place where a grammar begins: llama-server's regular expressions
# recurse and try every way.
FIELDS = ("grammar", "grammar_triggers")


def lets(setting: str, who: Caller) -> bool:
    """Whether this caller may send a grammar."""
    return setting == "everybody" or (setting == "admin" and who.may("admin"))


def check(body: Mapping[str, Any], *, allowed: bool) -> None:
    """PermissionDenied for a grammar of whoever is not `allowed` one, BadRequest for one that does harm."""
    given = next((name for name in FIELDS if body.get(name)), None)
    if given is None and "grammar" not in body:
        return
    if given is not None and not allowed:
        raise PermissionDenied(
            f"`{given}` is only for keys that may send grammars (setting `client_grammars`), since some hang "
            "llama-server for everybody; use a JSON schema",
            param=given,
            code="grammar_not_allowed",
        )
    if "grammar" in body:
        _check(body["grammar"])


def _check(grammar: Any) -> None:
    if not isinstance(grammar, str):
        _refuse(f"must be a string, not {kind_of(grammar)}")
    if len(grammar) > MAX_LENGTH:
        _refuse(f"has {len(grammar)} characters, {MAX_LENGTH} are allowed")
    try:
        words = tokens(grammar)
        _check_reading(words)
        found = steps(words)
    except Unreadable as error:
        _refuse(str(error))
    if found is not None and found > MAX_STEPS:
        _refuse(
            f"has {found} steps when its rules are written out, {MAX_STEPS} are allowed: rules or "
            "repetitions multiply"
        )


def _check_reading(words: list[tuple[str, str]]) -> None:
    depth = 0
    for kind, text in words:
        depth += (text == "(") - (text == ")")
        if depth > MAX_DEPTH:
            _refuse(f"is nested more than {MAX_DEPTH} deep")
        if kind == "times":
            repetition(text)


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"`grammar` {why}", param="grammar")
