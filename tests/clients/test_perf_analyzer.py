"""perf_analyzer 2.41.1, Triton's load generator: short runs that have to end with status 0."""

import os
import subprocess
from pathlib import Path

import pytest

from quickstart_model import NAME
from serving import Server

CACHE = Path(os.environ.get("AFTERGLOW_CACHE", Path.home() / ".cache/afterglow"))
FOLDER = CACHE / "perf_analyzer-2.41.1"
PROGRAM = FOLDER / "tritonclient-2.41.1.data/data/bin/perf_analyzer"

# As few measurements as it allows; whether they are stable says something about the machine, not about the server.
SHORT = ["--measurement-mode", "count_windows", "--measurement-request-count", "20", "-s", "999", "-r", "3"]


def perf_analyzer(server: Server, protocol: str, *arguments: str) -> str:
    address = server.http if protocol == "http" else server.grpc
    environment = {**os.environ, "LD_LIBRARY_PATH": str(FOLDER / "nvidia/cuda_runtime/lib")}
    done = subprocess.run(
        [PROGRAM, "-i", protocol, "-u", address, *SHORT, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "infer/sec" in done.stdout
    return done.stdout


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_batching_model_is_measured_at_two_concurrencies(server: Server, protocol: str) -> None:
    report = perf_analyzer(server, protocol, "-m", "simple", "--concurrency-range", "1:2", "-b", "2")
    assert "Concurrency: 2" in report
    assert "Inference count" in report  # the server's own statistics were read


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_versioned_model_is_measured(server: Server, protocol: str) -> None:
    perf_analyzer(server, protocol, "-m", "perceptron", "-x", "1")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_model_with_dynamic_extents_is_measured(server: Server, protocol: str) -> None:
    shapes = [f"--shape={name}:16" for name in ("input_ids", "attention_mask", "token_type_ids")]
    perf_analyzer(server, protocol, "-m", NAME, "--input-data", "zero", *shapes)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_strings_are_measured(server: Server, protocol: str) -> None:
    perf_analyzer(server, protocol, "-m", "identity_bytes", "--shape", "x:4", "--string-length", "16")


def test_a_grpc_stream_is_measured(server: Server) -> None:
    perf_analyzer(server, "grpc", "-m", "simple", "--streaming", "--async")


def test_json_tensors_are_measured(server: Server) -> None:
    perf_analyzer(server, "http", "-m", "simple", "--input-tensor-format", "json", "--output-tensor-format", "json")


def test_a_fixed_request_rate_is_kept(server: Server) -> None:
    perf_analyzer(server, "http", "-m", "simple", "--request-rate-range", "20:20")
