"""The short HTML report on a dataset: one file, no scripts, nothing fetched."""

from collections.abc import Sequence
from html import escape

from corral.datasets.check import FileReport
from corral.datasets.counting import Counts, Estimate
from corral.datasets.findings import Finding, Findings

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;border-bottom:1px solid #ddd;text-align:left;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f6f6f6;padding:.75rem;
white-space:pre-wrap;overflow-wrap:anywhere}.error{color:#a00}.warning,.loss{color:#850}svg text{font-size:11px}
"""


def html(
    title: str,
    files: Sequence[FileReport],
    findings: Findings,
    counts: Counts | None = None,
    estimate: Estimate | None = None,
    samples: Sequence[str] = (),
    limit: int = 100,
) -> str:
    """The page. `samples` are rows as text, shown as they are."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>",
        _table(
            ["file", "format", "good rows", "bad rows"],
            [[f.file, f.format, f"{f.rows:,}", f"{f.bad_rows:,}"] for f in files],
        ),
    ]
    if counts is not None:
        parts += ["<h2>Tokens</h2>", _counts(counts, estimate), histogram(counts)]
    parts.append("<h2>Findings</h2>")
    totals = [(s, code, n) for s, codes in findings.summary().items() for code, n in codes.items()]
    if totals:
        parts.append(
            _table(["severity", "code", "count"], [[s, c, f"{n:,}"] for s, c, n in totals])
        )
        parts.append(_findings(findings.first(limit)))
    else:
        parts.append("<p>None.</p>")
    if samples:
        parts.append("<h2>Rows</h2>")
        parts += [f"<pre>{escape(sample)}</pre>" for sample in samples]
    return "\n".join(parts) + "\n"


def _counts(counts: Counts, estimate: Estimate | None) -> str:
    rows = [
        ["rows", f"{counts.rows:,}"],
        ["tokens", f"{counts.tokens:,}"],
        ["trained tokens", f"{counts.trained_tokens:,}"],
        ["mean, median, 95th percentile", f"{counts.mean:.0f}, {counts.median:,}, {counts.p95:,}"],
        ["longest", f"{counts.longest:,} (line {counts.longest_line})"],
    ]
    if counts.sampled is not None:
        rows.append(["counted from a sample of", f"{counts.sampled:,}"])
    if counts.context:
        rows.append([f"rows over the context of {counts.context:,}", f"{counts.over_context:,}"])
    if estimate is not None:
        rows.append(["suggested epochs", str(estimate.epochs)])
        rows.append(
            [
                "LoRA here, roughly",
                f"{duration(estimate.seconds)}, {estimate.bytes / 2**30:.1f} GiB",
            ]
        )
    return _table([], rows)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def histogram(counts: Counts) -> str:
    """Row lengths as an SVG bar chart."""
    tallest = max((n for _, _, n in counts.lengths), default=0) or 1
    width = 720 / max(len(counts.lengths), 1)
    bars = []
    for place, (low, high, n) in enumerate(counts.lengths):
        height = 160 * n / tallest
        bars.append(
            f'<rect x="{place * width:.1f}" y="{170 - height:.1f}" width="{width - 2:.1f}" height="{height:.1f}" '
            f'fill="#4a7"><title>{low:,} to {high:,} tokens: {n:,} rows</title></rect>'
        )
    first, last = counts.lengths[0][0], counts.lengths[-1][1]
    axis = f'<text x="0" y="185">{first:,}</text><text x="720" y="185" text-anchor="end">{last:,} tokens</text>'
    label = f'aria-label="row lengths from {first} to {last} tokens"'
    return f'<svg viewBox="0 0 720 190" width="720" role="img" {label}>{"".join(bars)}{axis}</svg>'


def _findings(findings: Sequence[Finding]) -> str:
    rows = "".join(
        f"<tr><td>{escape(f.file)}<td class=n>{f.line or ''}<td>{escape(f.field)}"
        f"<td class={f.severity}>{f.severity}<td>{escape(f.message)}"
        for f in findings
    )
    return f"<table><tr><th>file<th>line<th>field<th>severity<th>message{rows}</table>"


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "<tr>" + "".join(f"<th>{escape(name)}" for name in head) if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table>{top}{body}</table>"
