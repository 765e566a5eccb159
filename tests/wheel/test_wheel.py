"""The wheel, installed where nothing of this repository is on the path, runs a model from Python."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from models.graph import FLOAT, Graph
from serving import BINARIES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "inference-runtime/opencl-ep/python"
GUIDE = ROOT / "docs/guide/python.md"


def build(folder: Path) -> Path:
    """As the package's README says, from the library under test."""
    environment = {**os.environ, "AFTERGLOW_EP_LIBRARY": str(BINARIES / "libafterglow_opencl_ep.so")}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--wheel-dir",
        folder,
        PACKAGE,
    ]
    subprocess.run(command, check=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel installed, and onnxruntime borrowed from the tests' environment."""
    environment = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    install = [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-index", "--no-deps", wheel]
    subprocess.run(install, check=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    return python


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = relu(x · w) as a file."""
    graph = Graph()
    x = graph.input("x", FLOAT, ["batch", 3])
    product = graph.op("MatMul", x, graph.weight("w", [[1, -1], [2, -2], [3, -3]]), name="product")
    graph.op("Relu", product, name="y")
    graph.output("y", FLOAT, ["batch", 2])
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(graph.model("relu").SerializeToString())
    return path


def run(python: Path, script: str, folder: Path) -> str:
    """What a script prints when it is run outside this repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_named_and_tagged_for_what_it_needs(wheel: Path) -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert re.fullmatch(rf"onnxruntime_ep_afterglow-{version}-py3-none-manylinux_2_\d+_x86_64\.whl", wheel.name)


def test_the_wheel_holds_the_library_and_nothing_of_onnxruntime(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert [name for name in names if ".so" in name] == ["onnxruntime_ep_afterglow/libafterglow_opencl_ep.so"]


def test_the_same_library_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == wheel.read_bytes()


def test_the_library_exports_what_onnxruntime_and_our_engine_look_up_and_nothing_else() -> None:
    symbols = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=just-symbols", BINARIES / "libafterglow_opencl_ep.so"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert sorted(symbols) == ["AfterglowObserveRuns1", "CreateEpFactories", "ReleaseEpFactory"]


def test_importing_the_package_imports_no_onnxruntime(python: Path, tmp_path: Path) -> None:
    script = "import sys, onnxruntime_ep_afterglow; print('onnxruntime' in sys.modules)"
    assert run(python, script, tmp_path).strip() == "False"


def test_the_installed_package_runs_a_model_on_opencl_without_fallback(
    python: Path, model: Path, tmp_path: Path
) -> None:
    script = f"""
import numpy as np
import onnxruntime as ort
import onnxruntime_ep_afterglow as afterglow

assert afterglow.get_ep_names() == [afterglow.get_ep_name()]
ort.register_execution_provider_library("afterglow.virtual", afterglow.get_library_path())
devices = [device for device in ort.get_ep_devices() if device.ep_name == afterglow.get_ep_name()]
options = ort.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
options.add_provider_for_devices(devices[:1], {{}})
session = ort.InferenceSession({str(model)!r}, options, enable_fallback=False)
session.disable_fallback()
print(session.run(None, {{"x": np.array([[1, 0, 0], [0, 0, 1]], dtype=np.float32)}})[0].tolist())
"""
    assert run(python, script, tmp_path).strip() == "[[1.0, 0.0], [3.0, 0.0]]"


def test_the_guides_example_runs_as_printed(python: Path, model: Path, tmp_path: Path) -> None:
    (example,) = re.findall(r"<!-- tested -->\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    printed = run(python, example, tmp_path)
    assert "device: " in printed
    assert "on OpenCL: 2 of 2 nodes" in printed
    assert "y: float32 (1, 2)" in printed
