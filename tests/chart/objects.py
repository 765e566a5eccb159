"""What tests of the chart say of the objects that it renders, and where the chart is."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Object = dict[str, Any]
Result = subprocess.CompletedProcess[str]
# The fixtures `helm` and `render`.
Helm = Callable[..., Result]
Render = Callable[..., list[Object]]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts/afterglow"


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [found for found in objects if found["kind"] == kind]


def operator(objects: list[Object]) -> Object:
    """The template of the operator's pod."""
    (deployment,) = of_kind(objects, "Deployment")
    template: Object = deployment["spec"]["template"]
    return template


def roles(objects: list[Object]) -> list[Object]:
    return of_kind(objects, "ClusterRole") + of_kind(objects, "Role")


def rules(role: Object) -> set[tuple[str, str, str]]:
    """Group, resource and verb of everything that a role allows."""
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def last_word(role: Object) -> str:
    """Whose role it is: `agent` of `afterglow-agent`."""
    return str(role["metadata"]["name"].rsplit("-", 1)[1])
