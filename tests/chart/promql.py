"""What expressions name, and what the guide's table lists: enough of PromQL to hold one against the other."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from .objects import CHART, ROOT

RULES = CHART / "alerts/afterglow.yaml"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
# On every series of a part's page, and so not in the table; an engine's page is written anew by its agent.
COMMON = {
    "operator": set(),
    "scheduler": {"inference_cluster"},
    "agent": {"inference_cluster", "node"},
    "engine": {"inference_cluster", "node", "device", "model_namespace", "replica", "selector"},
}
WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
# Lists of labels, ranges, numbers and strings hold no metrics; what comes before a bracket is a function.
LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\[[^\]]*\]")
STRING = r'"(?:[^"\\]|\\.)*"'
SELECTOR = re.compile(rf"{STRING}|\d[\w.]*|([a-zA-Z_:][\w:]*)\s*(\(|\{{(?:[^}}\"]|{STRING})*\}})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    kind: str
    part: str
    cards_only: bool
    labels: frozenset[str]


def table() -> dict[str, Metric]:
    """The rows of docs/guide/metrics.md, by the metric's name."""
    found = {}
    for line in (ROOT / "docs/guide/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 5:
            continue
        name, kind, by, labels, _ = cells
        part, _, where = by.partition(", ")
        if part not in COMMON:
            continue
        names = frozenset(re.findall(r"`(\w+)`", labels)) | COMMON[part] | ({"le"} if kind == "histogram" else set())
        assert name.strip("`") not in found, f"{name} is listed twice"
        found[name.strip("`")] = Metric(kind, part, where == "cards only", frozenset(names))
    return found


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each metric that an expression reads, with its matchers."""
    for name, after in SELECTOR.findall(LISTS.sub("", expression)):
        if name and name not in WORDS and after != "(":
            yield name, dict(MATCHER.findall(after))


def rules() -> list[dict]:
    """Each rule of the chart."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict]:
    """The alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboards() -> dict[str, dict]:
    """The dashboards, by the name of their file."""
    return {path.name: json.loads(path.read_text()) for path in DASHBOARDS}


def panels(dashboard: dict) -> list[dict]:
    """What shows something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the chart, with where it stands."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
        for variable in dashboard["templating"]["list"]:
            if match := re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]):
                yield f"{name}: ${variable['name']}", match[1]
