"""Helm and kubeconform, from the cache folder that `xtask/setup/setup.sh e2e` fills, else from the PATH."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from . import schemas
from .objects import CHART, Helm, Object, Render, Result


def tool(name: str) -> str:
    found = shutil.which(name, path=str(schemas.CACHE / "bin")) or shutil.which(name)
    assert found, f"{name} is missing: run xtask/setup/setup.sh e2e"
    return found


@pytest.fixture(scope="session", name="tool")
def find_tool() -> Callable[[str], str]:
    """tool("etcd"): where a program is."""
    return tool


@pytest.fixture(scope="session")
def helm() -> Helm:
    """helm("lint", …): what it said, failed or not."""
    program = tool("helm")
    return lambda *args: subprocess.run([program, *map(str, args)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """render("pocl", "--set", …): the objects that the chart makes of charts/afterglow/ci/pocl-values.yaml."""

    def rendered(values: str, *args: str) -> list[Object]:
        file = CHART / f"ci/{values}-values.yaml"
        made = helm("template", "afterglow", CHART, "--namespace", "afterglow-system", "--values", file, *args)
        assert made.returncode == 0, made.stderr
        return [document for document in yaml.safe_load_all(made.stdout) if document]

    return rendered


@pytest.fixture(scope="session")
def kubeconform(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[Object]], Result]:
    """kubeconform([object, …]): its verdict by the schemas of Kubernetes and of our kinds."""
    location = schemas.write(tmp_path_factory.mktemp("schemas"))
    program = tool("kubeconform")

    def judge(objects: list[Object]) -> Result:
        command = [program, "-strict", "-summary", "-verbose", "-schema-location", location, "-"]
        text = yaml.safe_dump_all(objects)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    return judge


@pytest.fixture(scope="session")
def chart() -> Path:
    return CHART
