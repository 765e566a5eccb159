"""Dashboards, alerts and monitors: they name what exists, fire when they should, are made where they can be used."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from . import promql
from .conftest import tool
from .objects import ROOT, Object, Render, Result, of_kind, operator

RUNBOOKS = ROOT / "docs/runbooks"
KINDS = ("PodMonitor", "PrometheusRule")
HAS_KINDS = [argument for kind in KINDS for argument in ("--api-versions", f"monitoring.coreos.com/v1/{kind}")]
# What Grafana fills in by itself.
BUILT_IN = {"__rate_interval", "__range", "__interval"}


def promtool(*args: object) -> Result:
    return subprocess.run([tool("promtool"), *map(str, args)], capture_output=True, text=True, check=False)


def test_prometheus_takes_the_rules() -> None:
    said = promtool("check", "rules", promql.RULES)
    assert said.returncode == 0, said.stdout + said.stderr


def test_each_alert_fires_when_it_should_and_not_otherwise() -> None:
    file = Path(__file__).with_name("alerts.test.yaml")
    said = promtool("test", "rules", file)
    assert said.returncode == 0, said.stdout + said.stderr
    tests = yaml.safe_load(file.read_text())["tests"]
    samples = [sample for test in tests for case in test["promql_expr_test"] for sample in case["exp_samples"]]
    fires = {name for sample in samples for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert fires == set(promql.alerts()), "each is seen firing; what stays quiet beside it is left out of its list"


@pytest.mark.parametrize(("where", "expression"), list(promql.expressions()))
def test_every_expression_names_metrics_and_labels_of_the_guides_table(where: str, expression: str) -> None:
    table = promql.table()
    recorded = {rule["record"] for rule in promql.rules() if "record" in rule}
    named = list(promql.selectors(expression))
    assert named or expression.startswith("vector("), f"{where}: nothing is read"
    for name, matchers in named:
        if name in recorded:
            continue
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        metric = table.get(name) or (table[base] if base in table and table[base].kind == "histogram" else None)
        assert metric, f"{where}: {name} is not in docs/guide/metrics.md"
        assert matchers.keys() <= metric.labels, f"{where}: {name} has the labels {sorted(metric.labels)}"
        if metric.kind in ("counter", "histogram"):
            assert re.search(rf"(rate|increase)\({name}\b", expression), f"{where}: {name} grows; take its rate"


def test_the_reader_of_expressions_sees_every_metric() -> None:
    expression = 'sum by (a, le) (rate(x_total{code=~"429|5..",door="}"}[5m])) / on (b) y > 0.5 or vector(0) == z'
    assert [name for name, _ in promql.selectors(expression)] == ["x_total", "y", "z"]


@pytest.mark.parametrize("name", [path.name for path in promql.DASHBOARDS])
def test_a_dashboard_explains_itself(name: str) -> None:
    dashboard = promql.dashboards()[name]
    assert dashboard["uid"] == name.removesuffix(".json")
    assert "afterglow" in dashboard["tags"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    declared = {variable["name"] for variable in dashboard["templating"]["list"]} | BUILT_IN
    titles = [panel["title"] for panel in promql.panels(dashboard)]
    assert len(titles) == len(set(titles)), "a title names one panel"
    for panel in promql.panels(dashboard):
        assert len(panel["description"].split()) >= 4, f"{panel['title']}: it says what it shows"
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        used = re.findall(r"\$\{?(\w+)", json.dumps(panel["targets"]))
        assert set(used) <= declared, panel["title"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, f"{panel['title']} lies on another panel"
        taken |= cells


def test_there_are_dashboards_of_fleet_model_and_card_and_what_they_choose_by() -> None:
    chosen = {
        name: [variable["name"] for variable in dashboard["templating"]["list"]]
        for name, dashboard in promql.dashboards().items()
    }
    assert chosen == {
        "afterglow-card.json": ["datasource", "cluster", "node", "device"],
        "afterglow-fleet.json": ["datasource", "cluster"],
        "afterglow-model.json": ["datasource", "cluster", "namespace", "model"],
    }


def test_each_alert_has_its_runbook_and_each_runbook_its_alert() -> None:
    alerts = promql.alerts()
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*alerts, "README"}
    index = (RUNBOOKS / "README.md").read_text()
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert f"| [{name}]({name}.md) | {alert['labels']['severity']} |" in index, name
        page = (RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n"), name
        assert re.findall(r"^## (.*)$", page, re.M) == ["Look at", "Do"], name
        for linked in re.findall(r"\]\(([^)#]+)", page):
            assert (RUNBOOKS / linked).exists(), f"{name} leads to {linked}"


def annotated(pod: Object) -> bool:
    return pod["metadata"]["annotations"].get("prometheus.io/scrape") == "true"


@pytest.mark.parametrize(
    ("situation", "monitored"),
    [
        ([], False),
        (HAS_KINDS, True),
        (["--set", "metrics.monitors=Always"], True),
        ([*HAS_KINDS, "--set", "metrics.monitors=Never"], False),
    ],
    ids=["no kinds", "kinds", "said", "refused"],
)
def test_prometheus_is_told_in_the_words_that_the_cluster_understands(
    render: Render, situation: list[str], monitored: bool
) -> None:
    objects = render("default", *situation)
    made = [len(of_kind(objects, kind)) for kind in KINDS]
    assert made == ([2, 1] if monitored else [0, 0])
    pod = operator(objects)
    assert annotated(pod) is not monitored, "one of the two finds the pods, not both"
    said = f"--scrape-annotations={str(not monitored).lower()}"
    assert said in pod["spec"]["containers"][0]["args"], "agents and schedulers are made by the operator"


def test_whoever_wants_neither_gets_neither(render: Render) -> None:
    objects = render("hardened")
    assert not annotated(operator(objects))
    assert "--scrape-annotations=false" in operator(objects)["spec"]["containers"][0]["args"]
    assert not [found for found in objects if found["kind"] in KINDS]
    assert not of_kind(objects, "ConfigMap")


def test_the_monitors_find_the_pods_by_labels_and_ports_that_they_have(render: Render) -> None:
    arguments = [*HAS_KINDS, "--set", "metrics.monitorLabels.release=mine", "--set", "nameOverride=other"]
    objects = render("default", *arguments)
    own, workers = sorted(of_kind(objects, "PodMonitor"), key=lambda found: found["metadata"]["name"])
    pod = operator(objects)
    assert own["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    for monitor in (own, workers):
        assert monitor["metadata"]["labels"]["release"] == "mine"
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "15s"}
        assert endpoint["port"] in ports
    # As operator/src/cluster/build spells them.
    assert workers["spec"]["selector"] == {
        "matchLabels": {"app.kubernetes.io/name": "afterglow"},
        "matchExpressions": [
            {"key": "app.kubernetes.io/component", "operator": "In", "values": ["agent", "scheduler"]}
        ],
    }


def test_the_rule_is_the_file_with_what_the_values_say(render: Render, tmp_path: Path) -> None:
    (plain,) = of_kind(render("default", *HAS_KINDS), "PrometheusRule")
    assert plain["spec"] == yaml.safe_load(promql.RULES.read_text())

    arguments = ["--set", "alerts.runbooks=https://wiki.example/afterglow/,alerts.labels.release=mine"]
    arguments += ["--set-json", 'alerts.slo={"answered": 99.5, "inTime": 95, "seconds": 2.5}']
    (rule,) = of_kind(render("default", *HAS_KINDS, *arguments), "PrometheusRule")
    assert rule["metadata"]["labels"]["release"] == "mine"
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    judged = promtool("check", "rules", file)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    rules = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    by_name = {one.get("alert") or one["record"]: one for one in rules}
    lost = by_name["AfterglowNodeLost"]["annotations"]["runbook_url"]
    assert lost == "https://wiki.example/afterglow/AfterglowNodeLost.md"
    assert by_name["afterglow:slo_errors:budget"]["expr"] == "vector(0.005)"
    assert by_name["afterglow:slo_slow:budget"]["expr"] == "vector(0.05)"
    assert 'le=~"2.5|2.5.0"' in by_name["afterglow:slo_slow:ratio_rate1h"]["expr"]


def test_grafanas_sidecar_finds_each_dashboard_as_it_is_in_its_file(render: Render) -> None:
    objects = render("default", "--set", "dashboards.annotations.grafana_folder=Farm")
    found = [one for one in of_kind(objects, "ConfigMap") if "cluster.json" not in one["data"]]
    shown = {}
    for one in found:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Farm"}
        shown |= {name: json.loads(text) for name, text in one["data"].items()}
    assert shown == promql.dashboards()
