"""The Grafana dashboard: importable, and it asks for nothing that /metrics does not have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter

from corral.metrics import Metrics

PATH = Path(__file__).resolve().parents[2] / "deploy/grafana/corral.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']}/{target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
VARIABLES = {"datasource", "model"}
GRAFANAS_OWN = {"__rate_interval", "__all"}


def names() -> dict[str, set[str]]:
    """Every sample's name with its labels."""
    found: dict[str, set[str]] = {}
    for metric in Metrics().registry.collect():
        source = Metrics().registry._names_to_collectors[metric.name]
        labels = set(source._labelnames)  # type: ignore[attr-defined]
        kinds = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
        for suffix in kinds[metric.type]:
            found[metric.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


NAMES = names()
HISTOGRAMS = {name.removesuffix("_bucket") for name in NAMES if name.endswith("_bucket")}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_name_metrics_and_labels_that_exist(expression: str) -> None:
    asked = set(re.findall(r"\bcorral_\w+", expression))
    assert asked
    assert asked <= set(NAMES)
    labels = set(re.findall(r"(\w+)=~?\"", expression))
    for group in re.findall(r"by \(([^)]*)\)", expression):
        labels |= {label.strip() for label in group.split(",")}
    for name in asked:
        assert labels <= NAMES[name], name


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_are_balanced_and_rates_are_of_counters(expression: str) -> None:
    for left, right in ("()", "{}", "[]"):
        assert expression.count(left) == expression.count(right)
    for name in re.findall(r"(?:rate|increase)\((corral_\w+)", expression):
        assert name.endswith(("_total", "_bucket"))


def test_every_metric_is_on_the_dashboard_and_in_the_documentation() -> None:
    asked = " ".join(str(parameter.values[0]) for parameter in EXPRESSIONS)
    table = (PATH.parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    metrics = Metrics()
    for metric in metrics.registry.collect():
        counted = isinstance(metrics.registry._names_to_collectors[metric.name], Counter)
        name = metric.name + ("_total" if counted else "")
        assert name in asked
        assert f"`{name}`" in table
    assert set(re.findall(r"`(corral_\w+)`", table)) <= {*NAMES, *HISTOGRAMS}


def test_it_can_be_imported() -> None:
    """What Grafana's import asks for: a title, a schema version, panels with ids and places of their
    own, and a data source that the user chooses."""
    assert DASHBOARD["title"]
    assert DASHBOARD["uid"]
    assert "id" not in DASHBOARD
    assert DASHBOARD["schemaVersion"] >= 36
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["datasource"]["uid"] == "${datasource}"
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == VARIABLES
    used = set(re.findall(r"\$\{?(\w+)", PATH.read_text(encoding="utf-8")))
    assert used <= VARIABLES | GRAFANAS_OWN
