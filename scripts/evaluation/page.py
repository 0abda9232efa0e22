"""The evaluation as one HTML file that needs nothing else: table, gains, loss curve, worst answers."""

from html import escape
from typing import Any

from evaluation.summary import Judged, table, worst

WIDTH, HEIGHT, EDGE = 640, 220, 36
EXAMPLES = 10
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.4 ui-monospace, monospace }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
td, th { border: 1px solid #8885; padding: .4rem .6rem; vertical-align: top; text-align: left }
.figures { overflow-x: auto; white-space: pre }
.right { color: #2a8a4a } .wrong { color: #c0392b }
svg { max-width: 100%; height: auto } svg text { font: 11px system-ui; fill: currentColor }
"""
_COLOURS = {"train_loss": "#3b7dd8", "valid_loss": "#d8803b"}


def page(
    title: str,
    every: list[Judged],
    figures: list[dict[str, Any]],
    gains: list[dict[str, Any]],
    curves: dict[str, list[tuple[int, float]]],
) -> str:
    """The whole document."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<pre class="figures">{escape(table(figures, gains))}</pre>',
        _fields(figures),
    ]
    if any(len(points) > 1 for points in curves.values()):
        parts += ["<h2>Loss while training</h2>", curve_svg(curves)]
    parts += ["<h2>Worst answers</h2>", _examples(every)]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _fields(figures: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for each in figures for name in each["fields"]))
    head = "".join(f"<th>{escape(str(each['model']))}</th>" for each in figures)
    rows = "".join(
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{100 * each['fields'].get(name, 0):.1f}%</td>" for each in figures)
        + "</tr>"
        for name in names
    )
    return f"<h2>F1 of each field</h2><table><tr><th>field</th>{head}</tr>{rows}</table>"


def curve_svg(curves: dict[str, list[tuple[int, float]]]) -> str:
    """Lines over steps, each in its colour with its name; the loss axis starts at 0."""
    points = [point for line in curves.values() for point in line]
    last, top = max(step for step, _ in points), max(value for _, value in points) or 1.0

    def place(step: int, value: float) -> str:
        x = EDGE + (WIDTH - 2 * EDGE) * step / max(last, 1)
        y = HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * value / top
        return f"{x:.1f},{y:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{_COLOURS.get(name, "#888")}" stroke-width="1.5" '
        f'points="{" ".join(place(*point) for point in line)}"/>'
        for name, line in curves.items()
        if line
    )
    names = "".join(
        f'<text x="{WIDTH - EDGE - 110}" y="{20 + 16 * at}" style="fill:{_COLOURS.get(name, "#888")}">{escape(name)}</text>'
        for at, name in enumerate(curves)
    )
    base = HEIGHT - EDGE
    axes = (
        f'<path d="M{EDGE},{EDGE} V{base} H{WIDTH - EDGE}" fill="none" stroke="currentColor" stroke-opacity=".4"/>'
        f'<text x="2" y="{EDGE + 4}">{top:.3g}</text><text x="2" y="{base + 4}">0</text>'
        f'<text x="{WIDTH - EDGE}" y="{base + 16}" text-anchor="end">step {last}</text>'
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="loss by step">{axes}{lines}{names}</svg>'


def _examples(every: list[Judged]) -> str:
    chosen = worst(every, EXAMPLES)
    if not chosen:
        return f"<p>None: {escape(every[-1].label)} answered every row right.</p>"
    return "".join(_example(at, every) for at in chosen)


def _example(at: int, every: list[Judged]) -> str:
    asked = every[0].outcomes[at]
    heads = "".join(f"<th>{escape(each.label)}</th>" for each in every)
    cells = "".join(
        f'<td class="{"right" if each.outcomes[at].exact else "wrong"}"><pre>{escape(each.outcomes[at].answer)}</pre></td>'
        for each in every
    )
    return (
        f"<h3>Row {at + 1}</h3><pre>{escape(asked.prompt)}</pre><table><tr><th>expected</th>{heads}</tr>"
        f"<tr><td><pre>{escape(asked.expected)}</pre></td>{cells}</tr></table>"
    )
