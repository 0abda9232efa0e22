"""A client's own grammar, in llama.cpp's language: refused where reading it would harm llama-server. Pure.

Not covered: rules that double their alternatives again and again, which hang an instance when it
follows them.
"""

import re
from typing import Any, NoReturn

from corral.errors import BadRequest
from corral.gateway.body import kind_of

MAX_LENGTH = 65_536
# 100,000 brackets end llama-server, which recurses; 1,000 do not.
MAX_DEPTH = 200
MEANING = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|\{[^}\n]*\}|[()]')
RANGE = re.compile(r"\{\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\}")


def check(grammar: Any) -> None:
    """BadRequest for a grammar that is too long, too deep, or repeats in a range the wrong way round."""
    if not isinstance(grammar, str):
        _refuse(f"must be a string, not {kind_of(grammar)}")
    if len(grammar) > MAX_LENGTH:
        _refuse(f"has {len(grammar)} characters, {MAX_LENGTH} are allowed")
    depth = 0
    for token in MEANING.findall(grammar):
        depth += (token == "(") - (token == ")")
        if depth > MAX_DEPTH:
            _refuse(f"is nested more than {MAX_DEPTH} deep")
        found = RANGE.fullmatch(token)
        # It would fill the memory.
        if found and int(found[1]) > int(found[2]):
            _refuse(f"repeats {token}, which is impossible")


def _refuse(why: str) -> NoReturn:
    raise BadRequest(f"`grammar` {why}", param="grammar")
