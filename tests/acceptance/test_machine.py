"""What a machine lacks is said before anything is served, with what to do about it."""

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest

from models.broken import BROKEN
from models.make_models import make
from serving import BINARIES, free_addresses, serve

LACKS = {
    "ONNX Runtime": ({"ORT_DYLIB_PATH": "/nonexistent/lib.so"}, "ORT_DYLIB_PATH", "libonnxruntime.so.1.31.1"),
    "an OpenCL platform": ({"OCL_ICD_VENDORS": "/nonexistent"}, "no OpenCL device", "pocl-opencl-icd"),
    "the execution provider": ({"AFTERGLOW_EP_LIBRARY": "/nonexistent.so"}, "execution provider", "--device cpu"),
}


@pytest.mark.parametrize("what", LACKS)
def test_the_engine_says_what_the_machine_lacks_and_what_to_do(what: str, tmp_path: Path) -> None:
    environment, problem, advice = LACKS[what]
    http, grpc, metrics = free_addresses(3)
    command = [BINARIES / "afterglow-engine", "serve", "--repository", tmp_path]
    command += ["--http", http, "--grpc", grpc, "--metrics", metrics]
    ended = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1, f"without {what} it ended with {ended.returncode}"
    assert problem in ended.stderr
    assert advice in ended.stderr
    assert "panicked" not in ended.stderr, ended.stderr


def test_a_machine_without_opencl_still_serves_on_the_cpu_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCL_ICD_VENDORS", "/nonexistent")
    with serve(tmp_path, tmp_path / "engine.log", "cpu"):
        pass


@pytest.mark.parametrize("name", BROKEN)
def test_a_strict_engine_ends_on_a_broken_model_and_names_it(name: str, tmp_path: Path) -> None:
    make(tmp_path / "models", [name])
    http, grpc, metrics = free_addresses(3)
    command = [BINARIES / "afterglow-engine", "serve", "--repository", tmp_path, "--device", "cpu", "--strict"]
    command += ["--http", http, "--grpc", grpc, "--metrics", metrics]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1, ended.stderr
    assert name in ended.stderr


def test_broken_models_keep_no_other_from_serving_and_each_says_why(tmp_path: Path) -> None:
    make(tmp_path / "models", ["increment", "broken"])
    with serve(tmp_path, tmp_path / "engine.log", "cpu") as server:
        request = urllib.request.Request(f"{server.url}/v2/repository/index", data=b"{}", method="POST")
        with urllib.request.urlopen(request, timeout=10) as response:
            states = {line["name"]: line for line in json.load(response)}
        assert states["increment"]["state"] == "READY", states["increment"]
        for name in BROKEN:
            assert states[name]["state"] == "UNAVAILABLE", states[name]
            assert states[name]["reason"], f"{name} gives no reason"
