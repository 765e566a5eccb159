"""`afterglow up` as a process of its own, on free ports."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import BINARIES, DEVICE, free_addresses

WITHIN = 300.0


@dataclass(frozen=True)
class Up:
    """A process that serves a folder."""

    url: str
    grpc: str
    metrics: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]

    def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), sent)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def states(self) -> dict[tuple[str, str], str]:
        _, index = self.post("/v2/repository/index", {})
        return {(line["name"], line.get("version", "")): line["state"] for line in index}

    def increments(self, model: str) -> bool:
        body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.5]}]}
        status, answer = self.post(f"/v2/models/{model}/infer", body)
        return status == 200 and answer["model_name"] == model and answer["outputs"][0]["data"] == [2.5]

    def wait_until(self, claim: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not self.holds(claim):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)  # between two questions

    def holds(self, claim: Callable[[], bool]) -> bool:
        try:
            return claim()
        except (urllib.error.URLError, OSError):
            return False

    def ready(self) -> bool:
        with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=10):
            return True

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def start(folder: Path, log: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Up:
    http, grpc, metrics = free_addresses(3)
    command = [BINARIES / "afterglow", "up", folder, "--device", DEVICE, "--output", "json"]
    command += ["--http", http, "--grpc", grpc, "--metrics", metrics, *arguments]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    return Up(f"http://{http}", grpc, f"http://{metrics}/metrics", folder, log, process)


@contextmanager
def serve(folder: Path, log: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Up]:
    """A process that is ready; it must end with status 0 when it is told to stop."""
    up = start(folder, log, *arguments, environment=environment)
    try:
        up.wait_until(up.ready)
        yield up
        up.process.send_signal(signal.SIGTERM)
        assert up.process.wait(60) == 0, up.said()
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
