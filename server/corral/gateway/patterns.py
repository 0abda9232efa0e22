"""How loose the pattern of a schema is. Pure.

llama-server makes a grammar of it and follows each way through each token of its vocabulary by itself: n
repetitions of varying length in a row, and k characters, are n+k over k ways. Sixty `[a-z]*` took 15 s for an
answer of ten tokens, twenty 0.06 s (docs/log.md).
"""

import re

WORD = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\()|(?P<close>\))|(?P<times>[*+?]|\{[0-9]*,?[0-9]*\})|.",
    re.DOTALL,
)
BRACES = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")


def looseness(pattern: str) -> int:
    """Its repetitions of varying length, written out: those in a group that is repeated count as often."""
    open_groups, inner = [0], 0
    for match in WORD.finditer(pattern):
        if match["open"]:
            open_groups.append(0)
            inner = 0
        elif match["close"]:
            inner = open_groups.pop() if len(open_groups) > 1 else 0
            open_groups[-1] += inner
        elif match["times"]:
            most, varies = _times(match["times"])
            open_groups[-1] += inner * (most - 1) + varies
            inner = 0
        else:
            inner = 0
    return sum(open_groups)


def _times(text: str) -> tuple[int, bool]:
    braces = BRACES.fullmatch(text)
    if braces is None:
        return 1, True
    least, comma, most = (part[:9] for part in braces.groups())
    return max(1, int(most or least or 1)), bool(comma) and least != most
