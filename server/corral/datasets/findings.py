"""Findings: what is wrong with a file, or lost in a conversion, and where.

    error    the row cannot be used; it is left out
    loss     the target format cannot hold something; `strict` makes it an error
    warning  usable, but probably not what was meant
    note     the same meaning in another form

All findings are counted; only the first `keep` of each code are kept, so that memory stays flat
however broken a file is. `stream` receives every one of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

Severity = Literal["error", "loss", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "loss", "warning", "note")


class Finding(msgspec.Struct, frozen=True):
    """One finding. `line` counts from 1; 0 is the file as a whole. `field` is a path in the row."""

    file: str
    line: int
    field: str
    code: str
    message: str
    severity: Severity

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        field = f" {self.field}:" if self.field else ""
        return f"{place}:{field} {self.message} [{self.severity}: {self.code}]"


class Findings:
    """The collector. One for each run, over all files."""

    def __init__(
        self,
        *,
        keep: int = 1000,
        strict: bool = False,
        stream: Callable[[Finding], None] | None = None,
    ) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[tuple[Severity, str]] = Counter()
        self.strict = strict
        self._keep = keep
        self._stream = stream

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room for its code."""
        key = (finding.severity, finding.code)
        self.counts[key] += 1
        if self.counts[key] <= self._keep:
            self.kept.append(finding)
        if self._stream is not None:
            self._stream(finding)

    def add_error(self, file: str, code: str, message: str) -> None:
        """An error about a file as a whole."""
        self.add(Finding(file, 0, "", code, message, "error"))

    def count(self, severity: Severity) -> int:
        """How many findings of this severity there were, kept or not."""
        return sum(n for (name, _), n in self.counts.items() if name == severity)

    @property
    def failed(self) -> bool:
        """Whether the run must end with a failure: any error, or under `strict` any loss."""
        return self.count("error") > 0 or (self.strict and self.count("loss") > 0)

    def summary(self) -> dict[str, dict[str, int]]:
        """Counts by severity and code, for `--json`."""
        result: dict[str, dict[str, int]] = {}
        for (severity, code), n in sorted(self.counts.items()):
            result.setdefault(severity, {})[code] = n
        return result

    def first(self, limit: int, severities: Iterable[Severity] = SEVERITIES) -> list[Finding]:
        """The first `limit` kept findings, worst severity first, then by file and line."""
        rank = {name: place for place, name in enumerate(severities)}
        chosen = [finding for finding in self.kept if finding.severity in rank]
        chosen.sort(key=lambda finding: (rank[finding.severity], finding.file, finding.line))
        return chosen[:limit]


class Place:
    """Where reading or writing stands, so that formats can say what is wrong without knowing it.

    One object moves along a file: `line` and `raw` change with each row. `bad` is set by an
    error, so a caller sees whether the row just read was usable.
    """

    __slots__ = ("bad", "bad_rows", "file", "findings", "line", "raw")

    def __init__(self, findings: Findings, file: str) -> None:
        self.findings = findings
        self.file = file
        self.line = 0
        self.raw: bytes | None = None
        self.bad = False
        self.bad_rows = 0

    def move(self, line: int, raw: bytes | None = None) -> None:
        """Go to the next row."""
        self.line = line
        self.raw = raw
        self.bad = False

    def error(self, field: str, code: str, message: str) -> None:
        """The row cannot be used."""
        self.bad_rows += not self.bad
        self.bad = True
        self._add("error", field, code, message)

    def loss(self, field: str, code: str, message: str) -> None:
        """The target cannot hold this."""
        self._add("loss", field, code, message)

    def warning(self, field: str, code: str, message: str) -> None:
        """Usable, but probably not what was meant."""
        self._add("warning", field, code, message)

    def note(self, field: str, code: str, message: str) -> None:
        """The same meaning in another form."""
        self._add("note", field, code, message)

    def text_at(self, *path: str | int) -> str | None:
        """The exact JSON text of a value inside the row just read; None when there is no raw row."""
        if self.raw is None:
            return None
        piece = msgspec.Raw(self.raw)
        for step in path:
            if isinstance(step, str):
                piece = msgspec.json.decode(piece, type=dict[str, msgspec.Raw])[step]
            else:
                piece = msgspec.json.decode(piece, type=list[msgspec.Raw])[step]
        return bytes(piece).decode().strip()

    def _add(self, severity: Severity, field: str, code: str, message: str) -> None:
        self.findings.add(Finding(self.file, self.line, field, code, message, severity))


def shown(value: Any, limit: int = 60) -> str:
    """A value as it appears in a message: short, on one line, with its type when it has no text."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
