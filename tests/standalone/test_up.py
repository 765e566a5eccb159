"""`afterglow up`: YAML and plain folders → agent → engine → scheduler → an answer, on this machine."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from models.make_models import make
from serving import BINARIES
from standalone.up import WITHIN, serve, start

DEPLOYMENT = """\
apiVersion: afterglow.dev/v1alpha1
kind: ModelDeployment
metadata: {{ name: {name} }}
spec:
  model: {{ source: {{ uri: 'file://./{file}', digest: '{digest}' }} }}
"""


def pack(model: Path, file: Path) -> str:
    command = [BINARIES / "afterglow", "--output", "json", "pack", model, "--out", file]
    packed = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert "model.onnx" in packed["files"]
    return str(packed["digest"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A deployment of a package, and a plain folder."""
    make(tmp_path / "elsewhere", ["increment"])
    folder = tmp_path / "folder"
    folder.mkdir()
    digest = pack(tmp_path / "elsewhere" / "increment", folder / "one.tar")
    (folder / "one.yaml").write_text(DEPLOYMENT.format(name="one", file="one.tar", digest=digest))
    (tmp_path / "elsewhere" / "increment").rename(folder / "plain")
    return folder


def lints(page: str) -> list[str] | None:
    """What `promtool` says of a page, but of names that are Triton's and vLLM's; None where there is no promtool."""
    cache = os.environ.get("AFTERGLOW_CACHE", Path.home() / ".cache/afterglow")
    promtool = shutil.which("promtool", path=f"{cache}/bin:{os.environ['PATH']}")
    if not promtool:
        return None
    said = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    return [line for line in said.stderr.splitlines() if not line.startswith(("nv_", "vllm:"))]


def test_a_folder_is_served_and_followed(folder: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    with serve(folder, tmp_path / "log") as up:
        assert up.states() == {("one", "1"): "READY", ("plain", "1"): "READY"}
        assert up.increments("one")
        assert up.increments("plain")
        status, answer = up.post("/v2/models/one/infer", {}, x_afterglow_namespace="other")
        assert status == 404, answer
        with urllib.request.urlopen(up.metrics, timeout=10) as page:
            metrics = page.read().decode()
        assert 'afterglow_scheduler_replicas{ready="true",inference_cluster="default"} 2' in metrics
        assert "afterglow_cache_limit_bytes{" in metrics
        requests = [line for line in metrics.splitlines() if line.startswith("nv_inference_request_success{device=")]
        assert any('model="one"' in line and 'node="local"' in line for line in requests), metrics
        found = lints(metrics)
        assert not found, found
        if found is None:
            figure("metrics: not read by promtool, which is not here (xtask/setup/setup.sh e2e)")

        # A document that is wrong is told, and harms nobody.
        (folder / "bad.yaml").write_text("apiVersion: afterglow.dev/v1alpha1\nkind: ModelDeploymnet\n")
        up.wait_until(lambda: "bad.yaml:1" in up.said())
        # Another model comes, one goes.
        two = (folder / "one.yaml").read_text().replace("name: one", "name: two")
        (folder / "two.yaml").write_text(two)
        up.wait_until(lambda: up.increments("two"))
        (folder / "two.yaml").unlink()
        up.wait_until(lambda: ("two", "1") not in up.states())
        # A new revision answers before the old one goes.
        changed = (folder / "one.yaml").read_text() + "  requirements: { memory: 1Mi }\n"
        (folder / "one.yaml").write_text(changed)
        while up.states() != {("one", "2"): "READY", ("plain", "1"): "READY"}:
            assert up.increments("one"), up.said()


def test_a_wrong_digest_is_shown_with_its_reason_and_strict_ends_the_process(folder: Path, tmp_path: Path) -> None:
    document = DEPLOYMENT.format(name="one", file="one.tar", digest="sha256:" + "0" * 64)
    (folder / "one.yaml").write_text(document)
    with serve(folder, tmp_path / "log") as up:
        assert up.states() == {("one", "1"): "UNAVAILABLE", ("plain", "1"): "READY"}
        status, answer = up.post("/v2/models/one/infer", {})
        assert status == 503
        assert "DigestMismatch" in answer["error"]
    strict = start(folder, tmp_path / "strict.log", "--strict")
    try:
        assert strict.process.wait(WITHIN) == 1
    finally:
        strict.process.kill()
    assert "DigestMismatch" in strict.said()
