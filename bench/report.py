"""What was measured as CSV, as a table, as a plot, and as the few figures that are compared."""

import csv
import json
import math
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from operator import sub, truediv
from pathlib import Path

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """One target in one scenario in one `round`. `cpu_ms` is per request, of the front alone;
    `per_second` counts tokens where streamed, else requests."""

    upstream: str
    scenario: str
    target: str
    cpu_ms: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    per_second: float
    round: int


FIGURES = ("cpu_ms", "ttft_p50_ms", "ttft_p99_ms", "per_second")


def medians(rows: Iterable[Row]) -> dict[Key, dict[str, float]]:
    """By upstream, scenario and target: the median of each figure over the rounds."""
    cells: dict[Key, list[Row]] = {}
    for row in rows:
        cells.setdefault((row.upstream, row.scenario, row.target), []).append(row)
    return {
        key: {name: statistics.median(getattr(row, name) for row in found) for name in FIGURES}
        for key, found in cells.items()
    }


def latest(rows: list[Row]) -> dict[str, float]:
    """The figures of `bench/latest.json`; those that this run cannot give are left out. Each compares Corral with
    another target within a round, and is the median of the rounds' figures: between rounds the machine changes by
    more than what is compared."""
    cells: dict[Key, dict[int, Row]] = {}
    for row in rows:
        cells.setdefault((row.upstream, row.scenario, row.target), {})[row.round] = row

    def compared(
        scenario: str,
        other: str,
        figure: str = "cpu_ms",
        by: Callable[[float, float], float] = truediv,
        upstream: str = "model",
    ) -> float | None:
        mine, theirs = (cells.get((upstream, scenario, name), {}) for name in ("corral", other))
        found = [
            by(getattr(mine[number], figure), getattr(theirs[number], figure))
            for number in mine.keys() & theirs.keys()
            if getattr(theirs[number], figure)
        ]
        return statistics.median(found) if found else None

    share = compared("8 streams", "direct", "per_second", upstream="150M")
    found = {
        "stream_cpu_vs_router": compared("8 streams", "router"),
        "plain_cpu_vs_router": compared("8 plain", "router"),
        "stream_cpu_vs_litellm": compared("8 streams", "litellm"),
        "plain_cpu_vs_litellm": compared("8 plain", "litellm"),
        "tokens_vs_direct": share or compared("8 streams", "direct", "per_second"),
        "ttft_added_ms": compared("1 streams", "direct", "ttft_p50_ms", sub),
    }
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def table(cells: Mapping[Key, Mapping[str, float]]) -> str:
    """Markdown, one line per target and scenario."""
    lines = [
        "| upstream | scenario | target | front CPU, ms per request | first token p50, ms | p99, ms | per second |",
        "|---|---|---|---|---|---|---|",
    ]
    for (upstream, scenario, target), cell in cells.items():
        figures = " | ".join(f"{cell[name]:.2f}" for name in FIGURES)
        lines.append(f"| {upstream} | {scenario} | {target} | {figures} |")
    return "\n".join(lines) + "\n"


def plot(cells: Mapping[Key, Mapping[str, float]]) -> str:
    """An SVG of the CPU per request, on a logarithmic scale, the targets side by side."""
    shown = [(key, cell["cpu_ms"]) for key, cell in cells.items() if cell["cpu_ms"] > 0]
    rows, height = [], 18
    for index, ((upstream, scenario, target), value) in enumerate(shown):
        top = 40 + index * height
        width = 60 * max(0.0, math.log10(value / 0.01))
        label = f"{upstream}, {scenario}: {target}"
        rows.append(
            f'<text x="8" y="{top + 12}">{label}</text>'
            f'<rect x="260" y="{top + 2}" width="{width:.0f}" height="13" fill="{_colour(target)}"/>'
            f'<text x="{266 + width:.0f}" y="{top + 12}">{value:.2f} ms</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{60 + len(rows) * height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        '<text x="8" y="20" font-size="13">CPU before the instance, per request (logarithmic)</text>'
        + "".join(rows)
        + "</svg>\n"
    )


def _colour(target: str) -> str:
    return {"corral": "#3b7", "router": "#678", "litellm": "#c63"}.get(target, "#999")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = f"{len(names)} × {names[0]}" if names else platform.processor()
    return {"cpu": cpu, "system": platform.platform(), "python": platform.python_version()}


def write(rows: list[Row], out: Path) -> None:
    """serving.csv, serving.md, serving.svg and latest.json into `out`; the table on stdout."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "serving.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows(astuple(row) for row in rows)
    cells = medians(rows)
    (out / "serving.md").write_text(table(cells))
    (out / "serving.svg").write_text(plot(cells))
    (out / "latest.json").write_text(json.dumps(latest(rows), indent=2) + "\n")
    (out / "machine.json").write_text(json.dumps(machine(), indent=2) + "\n")
    print(table(cells))
    json.dump(latest(rows), sys.stdout, indent=2)
    print()
