"""The chart as Helm renders it: valid for Kubernetes and for our kinds, strict about values, no more than it says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .objects import ROOT, Helm, Object, Render, Result, last_word, of_kind, operator, roles, rules

VALUES = ["default", "pocl", "hardened"]
KINDS = {"inferenceclusters", "modeldeployments", "modelreplicas", "gpunodes"}


@pytest.mark.parametrize("values", VALUES)
def test_lint_has_nothing_to_say(helm: Helm, chart: Path, values: str) -> None:
    said = helm("lint", "--strict", chart, "--values", chart / f"ci/{values}-values.yaml")
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("values", VALUES)
def test_what_is_rendered_is_valid_to_the_letter(
    render: Render, kubeconform: Callable[[list[Object]], Result], values: str
) -> None:
    objects = render(values)
    said = kubeconform(objects)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"Valid: {len(objects)}, Invalid: 0, Errors: 0, Skipped: 0" in said.stdout, "every object was looked at"


def test_the_validation_finds_a_misspelt_field_at_any_depth(
    render: Render, kubeconform: Callable[[list[Object]], Result]
) -> None:
    objects = render("default")
    operator(objects)["spec"]["containers"][0]["readinesProbe"] = {}
    head = {"apiVersion": "afterglow.dev/v1alpha1", "kind": "InferenceCluster", "metadata": {"name": "x"}}
    said = kubeconform([*objects, head | {"spec": {"scheduler": {"replica": 1}}}])
    assert said.returncode != 0
    assert "readinesProbe" in said.stdout
    assert "replica" in said.stdout


def test_examples_are_valid(kubeconform: Callable[[list[Object]], Result]) -> None:
    files = sorted((ROOT / "manifests/examples").glob("*.yaml"))
    assert files
    objects = [found for file in files for found in yaml.safe_load_all(file.read_text()) if found]
    said = kubeconform(objects)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Skipped: 0" in said.stdout


def test_what_is_generated_is_up_to_date() -> None:
    said = subprocess.run(
        [sys.executable, ROOT / "charts/render.py", "--check"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "operater.replicas=2",
        "operator.replicas=0",
        "operator.replicas=two",
        "operator.clusterDomain=",
        "image.pullPolicy=Sometimes",
        "image.registry=somewhere/",
        "image.tag=not a tag",
        "agent.variant=cuda",
        "cluster.name=Has_Capitals",
        "cluster.spec.cpuFallback=Perhaps",
        "cluster.spec.agent.cache.sizes=1Gi",
        "cluster.spec.scheduler.service.type=Ingress",
        "crds.install=maybe",
        "traces.otlpEndpoint=collector:4317",
        "traces.ratio=2",
        "metrics.monitors=Perhaps",
        "metrics.interval=soon",
        "dashboards.creat=true",
        "alerts.slo.answered=100",
        "alerts.slo.seconds=3",
        "alerts.runbooks=",
    ],
)
def test_wrong_values_are_refused(helm: Helm, chart: Path, wrong: str) -> None:
    said = helm("template", "afterglow", chart, "--set", wrong)
    assert said.returncode != 0, f"{wrong} was taken"
    assert "values.schema.json" in said.stderr or "don't meet the specifications" in said.stderr, said.stderr


def test_processors_are_not_offered_where_the_cluster_forbids_them(helm: Helm, chart: Path) -> None:
    said = helm("template", "afterglow", chart, "--set", "agent.variant=pocl")
    assert said.returncode != 0
    assert "cluster.spec.cpuFallback=Allowed" in said.stderr, "the error says what to do"


@pytest.mark.parametrize("values", VALUES)
def test_the_operators_pod_is_restricted(render: Render, values: str) -> None:
    pod = operator(render(values))["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert all(volume.keys() == {"name", "configMap"} for volume in pod.get("volumes", []))
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_operator_survives_the_loss_of_its_node_within_seconds(render: Render) -> None:
    objects = render("default")
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["spec"]["replicas"] == 2, "one that waits takes over at once"
    pod = operator(objects)["spec"]
    (apart,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    waits = {found["key"]: found["tolerationSeconds"] for found in pod["tolerations"] if found["effect"] == "NoExecute"}
    assert waits == {"node.kubernetes.io/not-ready": 15, "node.kubernetes.io/unreachable": 15}
    assert pod["containers"][0]["livenessProbe"]["timeoutSeconds"] == 5, "a busy machine is no reason to restart"


@pytest.mark.parametrize("values", VALUES)
def test_no_role_has_more_than_it_names(render: Render, values: str) -> None:
    for role in roles(render(values)):
        for group, resource, verb in rules(role):
            assert "*" not in (group, resource, verb), role["metadata"]["name"]
            assert resource not in ("secrets", "nodes/proxy", "pods/exec"), role["metadata"]["name"]
            assert verb not in ("escalate", "bind", "impersonate", "deletecollection"), role["metadata"]["name"]


@pytest.mark.parametrize("values", VALUES)
def test_the_operator_holds_every_rule_that_it_hands_on(render: Render, values: str) -> None:
    held = {(role["kind"], last_word(role)): rules(role) for role in roles(render(values))}
    assert held[("ClusterRole", "agent")] <= held[("ClusterRole", "operator")]
    assert held[("ClusterRole", "scheduler")] <= held[("ClusterRole", "operator")]
    assert held[("Role", "agent")] <= held[("Role", "operator")]


def test_the_kinds_can_be_left_out_and_are_kept_at_uninstall(render: Render) -> None:
    crds = of_kind(render("default"), "CustomResourceDefinition")
    assert {crd["spec"]["names"]["plural"] for crd in crds} == KINDS
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in crds} == {"keep"}
    assert not of_kind(render("hardened"), "CustomResourceDefinition")


def test_the_first_cluster_is_handed_to_the_operator_and_a_change_restarts_it(
    render: Render, kubeconform: Callable[[list[Object]], Result]
) -> None:
    objects = render("pocl")
    (held,) = (found for found in of_kind(objects, "ConfigMap") if "cluster.json" in found["data"])
    cluster = json.loads(held["data"]["cluster.json"])
    assert cluster["metadata"]["name"] == "processors"
    assert cluster["spec"]["agent"] == {"devices": "None", "cache": {"size": "5Gi"}}
    said = kubeconform([cluster])
    assert said.returncode == 0, said.stdout

    pod = operator(objects)
    (volume,) = pod["spec"]["volumes"]
    assert volume["configMap"]["name"] == held["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert f"--cluster-file={mount['mountPath']}/cluster.json" in container["args"]
    changed = operator(render("pocl", "--set", "cluster.spec.defaultNamespace=other"))
    assert changed["metadata"]["annotations"] != pod["metadata"]["annotations"]

    assert not of_kind(render("hardened"), "ConfigMap")
    assert "volumes" not in operator(render("hardened"))["spec"]


def test_images_follow_registry_tag_policy_and_variant(render: Render) -> None:
    (container,) = operator(render("pocl"))["spec"]["containers"]
    assert container["image"] == "images.example/afterglow/afterglow-operator:1.2.3"
    assert container["imagePullPolicy"] == "Never"
    assert "--agent-image=images.example/afterglow/afterglow-agent-pocl:1.2.3" in container["args"]
    assert "--scheduler-image=images.example/afterglow/afterglow-scheduler:1.2.3" in container["args"]
    assert "--image-pull-policy=Never" in container["args"]


def test_two_operators_keep_one_while_nodes_are_drained(render: Render) -> None:
    assert not of_kind(render("pocl"), "PodDisruptionBudget"), "a single one must not keep its node from being drained"
    (budget,) = of_kind(render("hardened"), "PodDisruptionBudget")
    selected = budget["spec"]["selector"]["matchLabels"].items()
    assert selected <= operator(render("hardened"))["metadata"]["labels"].items()


def test_names_follow_the_release(render: Render) -> None:
    names = {role["metadata"]["name"] for role in of_kind(render("hardened"), "ClusterRole")}
    assert names == {"inference-operator", "inference-agent", "inference-scheduler"}
    args = operator(render("hardened"))["spec"]["containers"][0]["args"]
    assert "--agent-role=inference-agent" in args
    assert "--scheduler-role=inference-scheduler" in args


def test_the_operator_is_told_of_a_collector_only_where_there_is_one(render: Render) -> None:
    def told(values: str) -> dict[str, str]:
        (container,) = operator(render(values))["spec"]["containers"]
        return {entry["name"]: entry["value"] for entry in container["env"] if entry["name"].startswith("OTEL_")}

    assert told("default") == {}
    assert told("hardened") == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4317",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.05",
    }
