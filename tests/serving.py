"""Starts the real engine on free ports and stops it as an operator would.

AFTERGLOW_BIN_DIR     where the binaries are; target/release by default
AFTERGLOW_TEST_DEVICE what the engine is told as --device; auto by default
"""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BINARIES = Path(os.environ.get("AFTERGLOW_BIN_DIR", ROOT / "target/release")).resolve()
DEVICE = os.environ.get("AFTERGLOW_TEST_DEVICE", "auto")

READY_WITHIN = 600.0
STOPPED_WITHIN = 60.0


@dataclass(frozen=True)
class Server:
    """Addresses as host:port."""

    http: str
    grpc: str
    metrics: str
    repository: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def metric_lines(self) -> list[str]:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as response:
            return [line for line in response.read().decode().splitlines() if not line.startswith("#")]


def free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


@contextmanager
def serve(repository: Path, log: Path, device: str = DEVICE, *arguments: str) -> Iterator[Server]:
    """A server that is ready; it must end with status 0 when it is told to stop."""
    http, grpc, metrics = free_addresses(3)
    command = [BINARIES / "afterglow-engine", "serve", "--repository", repository, "--device", device]
    command += ["--http", http, "--grpc", grpc, "--metrics", metrics, *arguments]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    server = Server(http, grpc, metrics, repository, log, process)
    try:
        _wait_until_ready(server)
        yield server
        process.send_signal(signal.SIGTERM)
        status = process.wait(STOPPED_WITHIN)
        assert status == 0, f"the engine stopped with status {status}:\n{_end_of(log)}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not _answers_ready(server):
        assert time.monotonic() < deadline, f"the engine was not ready in {READY_WITHIN} s:\n{_end_of(server.log)}"
        with suppress(subprocess.TimeoutExpired):
            status = server.process.wait(0.05)
            raise AssertionError(f"the engine ended with status {status}:\n{_end_of(server.log)}")


def _answers_ready(server: Server) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/v2/health/ready", timeout=10):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
