"""How many steps a grammar in llama.cpp's language has, written out in full. Pure.

llama-server follows every way through a grammar at once and keeps a stack for each. Rules that name others
twice make more of them than it can ever follow: 280 characters hang an instance (docs/log.md). Without
recursion a grammar is a finite automaton, and its transitions can be counted, every rule that is
entered on the way included.

Not covered: a grammar of few steps may hang an instance too. A recursive one, of which nobody can tell; and
one that is ambiguous in every character, since llama-server follows each way through a token by itself.
So only those send grammars who are let (setting `client_grammars`).
"""

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

# llama-server's own: a higher upper bound means none there.
MAX_REPEAT = 2000
# Sums beyond this are all the same: too large.
HUGE = 10**12
TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\r\n]*)+)|(?P<rule>[A-Za-z0-9-]+[ \t]*::=)|(?P<name>[A-Za-z0-9-]+)
    |(?P<text>"(?:\\.|[^"\\])*")|(?P<one>\[(?:\\.|[^\]\\])*\]|\.|!?<[^<>\s]+>)|(?P<times>[*+?])|(?P<mark>[|(){},])""",
    re.VERBOSE,
)
TIMES = re.compile(r"\{([0-9]{1,9})(?:(,)([0-9]{1,9})?)?\}")
TIMES_IN_SHORT = {"*": "{0,}", "+": "{1,}", "?": "{0,1}"}

Token = tuple[str, str]


class Unreadable(Exception):
    """This is no grammar, or harms who reads it; the text says why, as what follows `grammar`."""


class Cost(NamedTuple):
    """Of one part: what is visited to enter it, how many of its characters may be its last, whether it
    may be empty, and the steps between its characters."""

    enter: int
    last: int
    empty: bool
    steps: int


NOTHING = Cost(0, 0, True, 0)
ONE = Cost(1, 1, False, 0)


def tokens(grammar: str) -> list[Token]:
    """Its words, without spaces and comments; a repetition in braces is one. Raises Unreadable."""
    found: list[Token] = []
    at, braces = 0, ""
    while at < len(grammar):
        match = TOKEN.match(grammar, at)
        if match is None or match.lastgroup is None:
            raise Unreadable(f"cannot be read at character {at}")
        at, kind, text = match.end(), match.lastgroup, match[0]
        if kind == "space":
            continue
        if text == "{" or braces:
            braces += text
            if text == "}":
                found.append(("times", braces))
                braces = ""
        else:
            found.append((kind, text))
    if braces:
        raise Unreadable("has a brace that is not closed")
    return found


def steps(words: Iterable[Token]) -> int | None:
    """Those of its largest rule, with what is visited to enter each one, as llama-server does when it
    reads them; None for a recursive grammar. Raises Unreadable."""
    rules = _rules(words)
    wanted = {name: {text for kind, text in body if kind == "name"} for name, body in rules.items()}
    known: dict[str, Cost] = {}
    try:
        for name in TopologicalSorter(wanted).static_order():
            if name not in rules:
                raise Unreadable(f"has no rule `{name[:80]}`")
            known[name] = _rule(rules[name], known)
    except CycleError:
        return None
    entered = sum(cost.enter for cost in known.values())
    return entered + max((cost.steps for cost in known.values()), default=0)


def _rules(words: Iterable[Token]) -> dict[str, list[Token]]:
    found: dict[str, list[Token]] = {}
    body: list[Token] | None = None
    for kind, text in words:
        if kind == "rule":
            name = text[:-3].rstrip()
            if name in found:
                raise Unreadable(f"has two rules `{name[:80]}`")
            body = found[name] = []
        elif body is None:
            raise Unreadable("does not begin with a rule")
        else:
            body.append((kind, text))
    return found


def repetition(times: str) -> tuple[int, int | None]:
    """How often at least and at most; None: without end. Raises Unreadable."""
    match = TIMES.fullmatch(TIMES_IN_SHORT.get(times, times))
    if match is None:
        raise Unreadable(f"repeats `{times[:40]}`, which cannot be read")
    least = int(match[1])
    most = int(match[3]) if match[3] else None if match[2] else least
    # The wrong way round it would fill the memory.
    if most is not None and least > most:
        raise Unreadable(f"repeats {times}, which is impossible")
    return least, None if most is not None and most > MAX_REPEAT else most


def _rule(body: list[Token], known: Mapping[str, Cost]) -> Cost:
    """One rule whose rules are all known."""
    # For each open bracket the alternatives that have ended, and the parts of the one that goes on.
    open_ones: list[tuple[list[Cost], list[Cost]]] = [([], [])]
    for kind, text in body:
        ended, parts = open_ones[-1]
        if kind == "text":
            parts.append(_text(text[1:-1]))
        elif kind == "one":
            parts.append(ONE)
        elif kind == "name":
            parts.append(_entered(known[text]))
        elif text == "(":
            open_ones.append(([], []))
        elif text == "|":
            ended.append(_row(parts))
            parts.clear()
        elif text == ")" and len(open_ones) > 1:
            open_ones.pop()
            open_ones[-1][1].append(_entered(_either([*ended, _row(parts)])))
        elif kind == "times" and parts:
            parts.append(_repeated(parts.pop(), *repetition(text)))
        else:
            raise Unreadable(f"cannot be read at a `{text}`")
    if len(open_ones) > 1:
        raise Unreadable("has a bracket that is not closed")
    ended, parts = open_ones[0]
    return _either([*ended, _row(parts)])


def _text(text: str) -> Cost:
    if not text:
        return NOTHING
    return Cost(1, 1, False, len(text) - 1)


def _entered(inner: Cost) -> Cost:
    return inner._replace(enter=inner.enter + 1)


def _either(parts: list[Cost]) -> Cost:
    return _cost(
        sum(part.enter + 1 for part in parts),
        sum(part.last for part in parts),
        any(part.empty for part in parts),
        sum(part.steps for part in parts),
    )


def _row(parts: list[Cost]) -> Cost:
    """One after the other: from the last characters of each to whatever may come next."""
    whole = NOTHING
    for part in reversed(parts):
        whole = _cost(
            part.enter + (whole.enter if part.empty else 0),
            whole.last + (part.last if whole.empty else 0),
            part.empty and whole.empty,
            part.steps + whole.steps + part.last * whole.enter,
        )
    return whole


def _repeated(part: Cost, least: int, most: int | None) -> Cost:
    """`least` in a row, then what may be left out: one inside the other, or one that comes again."""
    again = part._replace(enter=part.enter + 3)
    if most is None:
        loop = part.last * again.enter
        rest = again._replace(empty=True, steps=part.steps + loop)
    else:
        rest = _copies(again, most - least)
        rest = rest._replace(last=part.last * (most - least), empty=True)
    return _row([_copies(part, least), rest])


def _copies(part: Cost, count: int) -> Cost:
    if not count:
        return NOTHING
    pairs = count * (count - 1) // 2 if part.empty else count - 1
    many = count if part.empty else 1
    steps = count * part.steps + pairs * part.last * part.enter
    return _cost(many * part.enter, many * part.last, part.empty, steps)


def _cost(enter: int, last: int, empty: bool, steps: int) -> Cost:
    return Cost(min(enter, HUGE), min(last, HUGE), empty, min(steps, HUGE))
