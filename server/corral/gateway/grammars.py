"""A client's own grammar, in llama.cpp's language: who may send one, and what is refused to everybody because
it would end llama-server or fill the machine's memory. Pure.

Not covered: grammars that hang it. 42 characters do, and no count of rules or steps tells them from others
(docs/log.md, 2026-11-30): whoever may send grammars may do that, so the setting `client_grammars` decides.
"""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from corral.caller import Caller
from corral.errors import BadRequest, PermissionDenied
from corral.gateway.body import kind_of

MAX_LENGTH = 65_536
# 100,000 brackets end llama-server, which recurses; 1,000 do not.
MAX_DEPTH = 200
# `grammar_triggers` hold patterns for the place where a grammar begins: llama-server's regular expressions
# recurse and try every way.
FIELDS = ("grammar", "grammar_triggers")
# Where brackets and braces are only text: in strings, sets of characters, names of tokens and comments.
TEXT = re.compile(r'"(?:\\.|[^"\\])*"?|\[(?:\\.|[^\]\\])*\]?|<[^<>\s]+>|#[^\r\n]*', re.DOTALL)
# Longer numbers llama-server cannot read.
RANGE = re.compile(r"\{\s*0*([0-9]{1,20})\s*,\s*0*([0-9]{1,20})\s*\}")


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
    rules = TEXT.sub(" ", grammar)
    depth = 0
    for mark in re.findall(r"[()]", rules):
        depth += 1 if mark == "(" else -1
        if depth > MAX_DEPTH:
            _refuse(f"is nested more than {MAX_DEPTH} deep")
    for least, most in RANGE.findall(rules):
        # It would fill the memory.
        if int(least) > int(most):
            _refuse(f"repeats {{{least},{most}}}, which is impossible")


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"`grammar` {why}", param="grammar")
