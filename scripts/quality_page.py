"""Measured types as one HTML page that needs nothing else: a size/quality plot and the table."""

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, MARGIN = 720, 360, 64, 44, 24
TICKS = 5
LABEL_SPACE = 15

STYLE = """
:root { color-scheme: light dark; --line: #8886; --good: #0a7d55; --bad: #c0392b; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .3rem .6rem; text-align: right; }
th { border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
.passed { color: var(--good); } .refused { color: var(--bad); } small { opacity: .8; }
"""

COLUMNS = (
    ("type", "type"), ("MB", "bytes"), ("KLD", "kld_mean"), ("KLD 99%", "kld_99"),
    ("same top", "same_top"), ("PPL", "ppl"), ("PPL ratio", "ppl_ratio"), ("score", "score"),
    ("tokens/s", "tokens_per_second"), ("fallback", "fallback_share"), ("gate", "gate"),
)  # fmt: skip


def cell(row: dict[str, Any], key: str) -> str:
    """One figure as a person reads it; empty when it was not measured."""
    value = row.get(key)
    if value is None:
        return ""
    if key == "bytes":
        return f"{value / 1e6:,.1f}"
    if key in ("same_top", "score", "fallback_share"):
        return f"{value:.1%}"
    if key == "gate":
        return "passed" if value["passed"] else "refused"
    if isinstance(value, float):
        return f"{value:,.1f}" if key == "tokens_per_second" else f"{value:.4f}"
    return str(value)


def page(measured: dict[str, Any]) -> str:
    """The whole page; `measured` is the result of measure_gguf.py."""
    base, rows = measured["base"], measured["types"]
    title = f"{base['name']}: size and quality"
    about = (
        f"Against {base['name']} ({base['bytes'] / 1e6:,.1f} MB, perplexity {base['ppl']:.4f}), on "
        f"{measured['text']['file']} in windows of {measured['text']['ctx']} tokens."
    )
    gate = measured["gate"]
    bar = f"Gate: KL divergence at most {gate['max_kld']:g}"
    if gate["min_score"] is not None:
        bar += f", score at least {gate['min_score']:.1%}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>
<body><h1>{escape(title)}</h1><p>{escape(about)}</p>
{plot(rows, gate["max_kld"])}
{table([base, *rows])}
<p><small>{escape(bar)}. KL divergence: how far a file's predictions are from the unquantised model's,
0 is the same. Speeds are of the machine that measured. llama.cpp {escape(measured["llama_cpp"])}.</small></p>
</body></html>
"""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures, one row to a file; columns that nothing was measured for are left out."""
    columns = [(head, key) for head, key in COLUMNS if any(cell(row, key) for row in rows)]
    heads = "".join(f"<th>{head}</th>" for head, _ in columns)
    lines = []
    for row in rows:
        cells = "".join(_td(cell(row, key), key) for _, key in columns)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _td(text: str, key: str) -> str:
    return f'<td class="{text}">{text}</td>' if key == "gate" else f"<td>{escape(text)}</td>"


def plot(rows: Sequence[dict[str, Any]], max_kld: float) -> str:
    """An SVG: size to the right, KL divergence upwards, one point for each type, the gate's line."""
    most_bytes = 1.1 * max((row["bytes"] for row in rows), default=1)
    highest = max((row["kld_mean"] for row in rows), default=0.0)
    # The gate is drawn where it does not flatten the points.
    top = 1.15 * (max(highest, max_kld) if max_kld < 3 * highest else highest or max_kld or 1)

    def across(size: float) -> float:
        return LEFT + (WIDTH - LEFT - MARGIN) * size / most_bytes

    def up(kld: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - MARGIN) * max(kld, 0) / top

    parts = [*_axes(most_bytes, top, across, up)]
    if max_kld <= top:
        y = up(max_kld)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - MARGIN}" y2="{y:.1f}" stroke="var(--bad)" stroke-dasharray="4 4"/>')  # fmt: skip
        parts.append(f'<text x="{LEFT + 6}" y="{y - 5:.1f}">--max-kld {max_kld:g}</text>')
    last = 0.0
    for row in sorted(rows, key=lambda row: row["bytes"]):
        x, y = across(row["bytes"]), up(row["kld_mean"])
        colour = "var(--good)" if row["gate"]["passed"] else "var(--bad)"
        # Labels of points close together go up one by one.
        label = y - 9 if abs(y - 9 - last) > LABEL_SPACE else last - LABEL_SPACE
        last = label
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{label:.1f}" text-anchor="middle">{escape(row["type"])}</text>')  # fmt: skip
    drawn = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="KL divergence over size">\n{drawn}\n</svg>'


def _axes(most_bytes: float, top: float, across: Any, up: Any) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = [
        f'<path d="M{LEFT} {MARGIN}V{floor}H{WIDTH - MARGIN}" fill="none" stroke="currentColor"/>',
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">size, MB</text>',
        f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">mean KL divergence</text>',
    ]
    for step in range(TICKS + 1):
        size, kld = most_bytes * step / TICKS, top * step / TICKS
        parts.append(f'<text x="{across(size):.1f}" y="{floor + 18}" text-anchor="middle">{size / 1e6:.3g}</text>')  # fmt: skip
        parts.append(f'<text x="{LEFT - 6}" y="{up(kld) + 4:.1f}" text-anchor="end">{kld:.2g}</text>')  # fmt: skip
    return parts
