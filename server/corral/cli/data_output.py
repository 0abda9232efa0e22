"""What `corral data` prints: results on stdout, all else on stderr; JSON where asked."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from corral.errors import InvalidData

if TYPE_CHECKING:
    from corral.datasets.census import Census
    from corral.datasets.check import FileReport
    from corral.datasets.convert import Result
    from corral.datasets.counting import Counts, Estimate
    from corral.datasets.findings import Finding, Findings
    from corral.datasets.formats import Format
    from corral.datasets.rows import Row

_ALL = 10**9


@contextmanager
def collected(
    max_findings: int, report: Path | None, *, strict: bool = False
) -> Iterator["Findings"]:
    """A collector that also writes each finding to the report file."""
    from corral.datasets.findings import Findings
    from corral.datasets.strict_json import encode

    keep = max(max_findings, 1000) if max_findings else _ALL
    try:
        with report.open("wb") if report else nullcontext() as file:

            def write(finding: "Finding") -> None:
                if file is not None:
                    file.write(encode(finding) + b"\n")

            yield Findings(keep=keep, strict=strict, stream=write if report else None)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else "writing: "
        raise InvalidData(f"{what}{error.strerror}; nothing was put in place") from None


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], object]]:
    """A count of rows on a terminal's stderr; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda rows: bar.advance(task, rows)


def expand(paths: Sequence[Path]) -> list[Path]:
    """The files, each folder replaced by its splits."""
    from corral.datasets.containers import split_files

    return [
        file for path in paths for file in (split_files(path).values() if path.is_dir() else [path])
    ]


def conversions(
    results: Sequence["Result"], findings: "Findings", limit: int, as_json: bool
) -> None:
    """The end of `convert`."""
    if as_json:
        _print_json({"results": [_plain(result) for result in results]}, findings, limit)
    else:
        _print_findings(findings, limit, sys.stderr)
        for r in results:
            how = f"{r.from_format}{' (found)' if r.detected else ''} to {r.to_format}"
            counts = f"{r.rows:,} rows read, {r.written:,} written, {r.left_out:,} left out, {r.bad_rows:,} bad"
            print(f"{r.source} → {r.target}: {how}: {counts}", file=sys.stderr)
        if findings.strict and findings.failed:
            print("corral: --strict: nothing was written", file=sys.stderr)
    _exit(findings)


def checks(
    reports: Sequence["FileReport"], findings: "Findings", limit: int, as_json: bool
) -> None:
    """The end of `check`."""
    if as_json:
        _print_json({"files": [_plain(report) for report in reports]}, findings, limit)
    else:
        _print_findings(findings, limit, sys.stdout)
        for report in reports:
            how = " (found)" if report.detected else ""
            print(
                f"{report.file}: {report.format}{how}: {report.rows:,} good rows, {report.bad_rows:,} bad",
                file=sys.stderr,
            )
    _exit(findings)


def census(result: "Census", estimate: "Estimate", findings: "Findings", as_json: bool) -> None:
    """The end of `count`."""
    from corral.datasets.report import duration

    counts = result.counts
    if as_json:
        extra = {
            "estimate": estimate._asdict(),
            "file": _plain(result.report),
            "counts": _plain(counts),
        }
        _print_json(extra, findings, 0)
        _exit(findings)
        return
    scaled = f" (from a sample of {counts.sampled:,})" if counts.sampled else ""
    print(f"rows            {counts.rows:,}")
    print(f"tokens          {counts.tokens:,}{scaled}")
    print(f"trained tokens  {counts.trained_tokens:,}")
    print(
        f"row length      mean {counts.mean:.0f}, median {counts.median:,}, 95% {counts.p95:,}, longest {counts.longest:,} (line {counts.longest_line})"
    )
    if counts.context:
        print(f"over context    {counts.over_context:,} of {counts.context:,} tokens")
    print(f"epochs          {estimate.epochs} suggested")
    print(
        f"LoRA here       about {duration(estimate.seconds)}, {estimate.bytes / 2**30:.1f} GiB (rough, float32 on this CPU)"
    )
    tallest = max(n for _, _, n in counts.lengths) or 1
    for low, high, n in counts.lengths:
        print(f"{low:>8,} – {high:<8,} {n:>8,} {'█' * round(40 * n / tallest)}")
    _print_findings(findings, 20, sys.stderr)
    _exit(findings)


def rows(
    file: Path,
    format: "Format",
    shown: Sequence["Row"],
    texts: Sequence[list[str] | None],
    findings: "Findings",
    as_json: bool,
) -> None:
    """The end of `show`."""
    if as_json:
        listed = [
            {"row": _plain(row), "rendered": text} for row, text in zip(shown, texts, strict=True)
        ]
        _print_json({"format": format.name, "rules": format.rules, "rows": listed}, findings, 0)
    else:
        print(
            f"{file}: {format.name} ({format.title})",
            *(f"  {rule}" for rule in format.rules),
            sep="\n",
        )
        for number, (row, text) in enumerate(zip(shown, texts, strict=True), 1):
            print(f"\nrow {number}")
            print(
                "\n".join(text) if text else json.dumps(_plain(row), ensure_ascii=False, indent=2)
            )
        _print_findings(findings, 20, sys.stderr)
    _exit(findings)


def selection(result: dict[str, Any], findings: "Findings", as_json: bool) -> None:
    """The end of `split`, `sample`, `shuffle` and `mix`."""
    if as_json:
        _print_json(result, findings, 0)
    else:
        _print_findings(findings, 20, sys.stderr)
        counts = result["rows"]
        listed = (
            ", ".join(f"{name} {n:,}" for name, n in counts.items())
            if isinstance(counts, dict)
            else f"{counts:,}"
        )
        print(f"{result.get('folder') or result['file']}: {listed} rows", file=sys.stderr)
    _exit(findings)


def write_html(
    path: Path,
    title: str,
    reports: Sequence["FileReport"],
    findings: "Findings",
    counts: "Counts | None" = None,
    estimate: "Estimate | None" = None,
) -> None:
    """The report page."""
    from corral.datasets.report import html

    try:
        path.write_text(html(title, reports, findings, counts, estimate), encoding="utf-8")
    except OSError as error:
        raise InvalidData(f"cannot write {path}: {error.strerror}", param="html") from None
    print(f"report: {path}", file=sys.stderr)


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _print_findings(findings: "Findings", limit: int, where: Any) -> None:
    listed = findings.first(limit or _ALL)
    for finding in listed:
        print(finding, file=where)
    total = sum(findings.counts.values())
    if total > len(listed):
        print(
            f"… and {total - len(listed):,} more (--max-findings 0, or --report FILE, shows all)",
            file=where,
        )
    for severity, codes in findings.summary().items():
        counts = ", ".join(f"{code} {n:,}" for code, n in codes.items())
        print(f"{severity}: {counts}", file=sys.stderr)


def _print_json(result: dict[str, Any], findings: "Findings", limit: int) -> None:
    listed = findings.first(limit or _ALL)
    result["ok"] = not findings.failed
    result["totals"] = findings.summary()
    result["findings"] = [_plain(finding) for finding in listed]
    result["findings_left_out"] = sum(findings.counts.values()) - len(listed)
    print(json.dumps(result, ensure_ascii=False, indent=2))


def _exit(findings: "Findings") -> None:
    if findings.failed:
        raise typer.Exit(1)
