"""Text cut into pieces of bounded length, at headings first, then paragraphs, lines, sentences.

Pure: `length` says how long a text is, in characters or in the tokens of a model.
"""

import re
from collections.abc import Callable, Iterator

import msgspec

from corral.errors import BadRequest

Length = Callable[[str], int]
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$")
_FENCE = re.compile(r"^[ \t]*(```|~~~)")
# Where a block that is too long may be cut, best first; each keeps its end with the left part.
_CUTS = (
    re.compile(r"(?<=\n\n)"),
    re.compile(r"(?<=\n)"),
    re.compile(r"(?<=[.!?;。！？])\s+"),
    re.compile(r"\s+"),
)


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a text. `headings` are those it lies under, outermost first."""

    text: str
    headings: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """`size`: the most that a chunk may have. `overlap`: how much of the chunk before is said
    again, where both are of one section. `least`: a section shorter than this shares a chunk with
    the next one under the same heading."""

    size: int
    overlap: int = 0
    least: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.overlap <= self.size // 2:
            raise BadRequest(
                f"chunks of {self.size} with an overlap of {self.overlap} cannot be cut; the size "
                "must be at least 1 and the overlap at most half of it",
                param="overlap",
            )


def cut(text: str, plan: Plan, length: Length = len) -> Iterator[Chunk]:
    """The chunks of a text, in order. No word is lost; none is longer than the plan allows, but
    for a single character that is."""
    for section in _merged(list(sections(text)), plan, length):
        yield from _fill(section, plan, length)


def sections(text: str) -> Iterator[Chunk]:
    """The text parted before each heading; a heading inside a code fence is none."""
    headings: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False
    for line in text.splitlines(keepends=True):
        if _FENCE.match(line):
            fenced = not fenced
        match = None if fenced else _HEADING.match(line.rstrip("\n"))
        if match:
            yield from _section(lines, headings)
            lines = []
            level = len(match[1])
            headings = [*(entry for entry in headings if entry[0] < level), (level, match[2])]
        lines.append(line)
    yield from _section(lines, headings)


def _section(lines: list[str], headings: list[tuple[int, str]]) -> Iterator[Chunk]:
    text = "".join(lines).strip()
    if text:
        yield Chunk(text, tuple(title for _, title in headings))


def _merged(parts: list[Chunk], plan: Plan, length: Length) -> Iterator[Chunk]:
    """Short sections put together with what follows them, so that a heading is never alone."""
    held: Chunk | None = None
    for part in parts:
        if held is not None:
            both = f"{held.text}\n\n{part.text}"
            shared = _shared(held.headings, part.headings)
            short = length(held.text) < plan.least and (shared or not held.headings)
            if short and length(both) <= plan.size:
                held = Chunk(both, shared)
                continue
            yield held
        held = part
    if held is not None:
        yield held


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]


def _fill(section: Chunk, plan: Plan, length: Length) -> Iterator[Chunk]:
    """A section as chunks, each as full as whole blocks allow."""
    if length(section.text) <= plan.size:
        yield section
        return
    current = ""
    for block in _blocks(section.text, plan.size - plan.overlap, length, 0):
        if current and length(current + block) > plan.size:
            if current.strip():
                yield Chunk(current.strip(), section.headings)
            current = _tail(current, plan.overlap, length)
        current += block
    if current.strip():
        yield Chunk(current.strip(), section.headings)


def _blocks(text: str, most: int, length: Length, level: int) -> Iterator[str]:
    """Pieces of at most `most`, cut at the best places there are."""
    if length(text) <= most:
        yield text
    elif level == len(_CUTS):
        yield from _hard(text, most, length)
    else:
        for piece in _pieces(text, _CUTS[level]):
            yield from _blocks(piece, most, length, level + 1)


def _pieces(text: str, at: "re.Pattern[str]") -> list[str]:
    ends = [match.end() for match in at.finditer(text)]
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True) if a < b]


def _hard(text: str, most: int, length: Length) -> Iterator[str]:
    """A text without a space, cut wherever it must be."""
    start = 0
    while start < len(text):
        end = min(len(text), start + most)
        while end - start > 1 and length(text[start:end]) > most:
            end -= max(1, (end - start) // 8)
        yield text[start:end]
        start = end


def _tail(text: str, overlap: int, length: Length) -> str:
    """The last whole words of a chunk, at most `overlap` of it."""
    if not overlap:
        return ""
    words = re.findall(r"\S+\s*", text)
    tail = ""
    for word in reversed(words):
        if length(word + tail) > overlap:
            break
        tail = word + tail
    return tail
