"""Figures over all rows, and whether a difference between two models is more than chance. Pure."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation.scoring import Counts, Outcome, total_fields

RESAMPLES = 10_000
LEVEL = 0.95
_DRAWN_AT_ONCE = 4_000_000
_SEED = 20_261  # intervals of the same outcomes are the same


@dataclass(frozen=True)
class Judged:
    """A model with its outcomes, rows in the same order for every model. `loss` is the mean of
    -log p over the expected answers' tokens, None where it was not measured."""

    label: str
    outcomes: list[Outcome] = field(repr=False)
    seconds: float
    loss: float | None = None


def figures(judged: Judged) -> dict[str, Any]:
    """JSON-ready figures of one model; shares lie between 0 and 1, times are milliseconds."""
    rows = judged.outcomes
    schemas = [o.schema for o in rows if o.schema is not None]
    fields = total_fields(rows)
    times = np.array([o.ms for o in rows])
    exact = [float(o.exact) for o in rows]
    return {
        "model": judged.label,
        "rows": len(rows),
        "valid_json": sum(o.valid for o in rows) / len(rows),
        "exact": sum(exact) / len(rows),
        "exact_interval": interval(exact),
        "schema_valid": sum(schemas) / len(schemas) if schemas else None,
        "field_f1": sum(fields.values(), start=Counts()).f1,
        "fields": {name: round(counts.f1, 4) for name, counts in fields.items()},
        "loss": judged.loss,
        "perplexity": math.exp(judged.loss) if judged.loss is not None else None,
        "ms_per_row": round(1000 * judged.seconds / len(rows), 1),
        "p50_ms": round(float(np.percentile(times, 50)), 1),
        "p95_ms": round(float(np.percentile(times, 95)), 1),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Bootstrap interval of the mean at LEVEL. Efron 1979, percentile method."""
    numbers, random = np.asarray(values, np.float64), np.random.default_rng(_SEED)
    each = max(1, _DRAWN_AT_ONCE // len(numbers))
    means = [
        numbers[random.integers(0, len(numbers), (min(each, RESAMPLES - at), len(numbers)))].mean(1)
        for at in range(0, RESAMPLES, each)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return round(float(low), 4), round(float(high), 4)


def row_f1(outcome: Outcome) -> float:
    """One row's F1 over all its fields."""
    return sum(outcome.fields.values(), start=Counts()).f1


def gain(before: Judged, after: Judged) -> dict[str, Any]:
    """How much better `after` is, row by row against `before`; `sure` when the interval of the paired
    difference leaves out 0."""
    made: dict[str, Any] = {"model": after.label, "against": before.label}
    for name, of in (("exact", lambda o: float(o.exact)), ("field_f1", row_f1)):
        apart = [of(b) - of(a) for a, b in zip(before.outcomes, after.outcomes, strict=True)]
        low, high = interval(apart)
        made[name] = {
            "gain": round(sum(apart) / len(apart), 4),
            "interval": (low, high),
            "sure": low > 0 or high < 0,
        }
    kept = sum(o.exact for o in before.outcomes)
    made["exact_kept"] = round(sum(o.exact for o in after.outcomes) / kept, 4) if kept else None
    return made


def worst(all_judged: list[Judged], most: int) -> list[int]:
    """Rows to look at: where the last model is least right, and among those where it lost most."""
    last, first = all_judged[-1].outcomes, all_judged[0].outcomes
    wrong = [at for at, outcome in enumerate(last) if not outcome.exact]
    return sorted(wrong, key=lambda at: (row_f1(last[at]), row_f1(last[at]) - row_f1(first[at])))[
        :most
    ]


def table(every: list[dict[str, Any]], gains: list[dict[str, Any]]) -> str:
    """The before/after table as text."""
    shown = [
        ("rows", "rows", "d"),
        ("whole answer right", "exact", "%"),
        ("valid JSON", "valid_json", "%"),
        ("valid under schema", "schema_valid", "%"),
        ("F1 over fields", "field_f1", "%"),
        ("loss", "loss", ".4f"),
        ("perplexity", "perplexity", ".3f"),
        ("latency p50, ms", "p50_ms", ".0f"),
        ("latency p95, ms", "p95_ms", ".0f"),
    ]
    lines = [["", *(str(each["model"]) for each in every)]]
    for title, name, kind in shown:
        if any(each[name] is not None for each in every):
            lines.append([title, *(_cell(each[name], kind) for each in every)])
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = [
        "  ".join(_place(c, w, at) for at, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    for each in gains:
        low, high = each["exact"]["interval"]
        sure = "more than chance" if each["exact"]["sure"] else "may be chance"
        text.append(
            f"{each['model']} against {each['against']}: {100 * each['exact']['gain']:+.1f} points right "
            f"(95% interval {100 * low:+.1f} to {100 * high:+.1f}: {sure})"
        )
    return "\n".join(text)


def _place(cell: str, width: int, at: int) -> str:
    return cell.rjust(width) if at else cell.ljust(width)


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}%" if kind == "%" else format(value, kind)
