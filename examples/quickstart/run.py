"""`make run`: serves the quickstart's model, shows the devices and which of them serves it, searches a few sentences.

On a terminal the server stays up, with the addresses to try. Without a terminal, or with CHECK=1, the ranking is
compared with the expected one, the server is stopped, and the exit status says whether all of it worked.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import search

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
BINARIES = Path(os.environ.get("AFTERGLOW_BIN_DIR", ROOT / "target/release"))
LOG = ROOT / "target/quickstart.log"

# The first start on a new device compiles the kernels and proves the model against the CPU.
READY_WITHIN = 300.0
STOPPED_WITHIN = 30.0


class Server:
    """`afterglow up` on the quickstart's folder; its output goes to a file, so that ours stays readable."""

    def __init__(self, device: str, ports: list[int]) -> None:
        http, grpc, metrics = (f"127.0.0.1:{port}" for port in ports)
        self.url, self.grpc, self.metrics = f"http://{http}", grpc, f"http://{metrics}/metrics"
        command = [BINARIES / "afterglow", "up", FOLDER, "--device", device]
        command += ["--http", http, "--grpc", grpc, "--metrics", metrics]
        with LOG.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait_until_ready(self) -> None:
        started = time.monotonic()
        while not self.answers_ready():
            seconds = time.monotonic() - started
            if sys.stdout.isatty():
                print(f"\rstarting the server, loading and proving the model … {seconds:3.0f} s", end="", flush=True)
            if seconds > READY_WITHIN:
                self.give_up(f"the server was not ready within {READY_WITHIN:.0f} s")
            if self.exits_within(0.1):
                self.give_up(f"the server ended with status {self.process.returncode}")
        erase = "\r\x1b[K" if sys.stdout.isatty() else ""
        print(f"{erase}ready after {time.monotonic() - started:.1f} s")

    def answers_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def exits_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        if not self.exits_within(STOPPED_WITHIN):
            self.give_up(f"the server did not stop within {STOPPED_WITHIN:.0f} s of SIGTERM")
        if self.process.returncode != 0:
            self.give_up(f"the server stopped with status {self.process.returncode} instead of 0")

    def give_up(self, reason: str) -> NoReturn:
        print(f"\nmake run: {reason}; the end of {LOG.relative_to(ROOT)}:", file=sys.stderr)
        for line in LOG.read_text(errors="replace").splitlines()[-20:]:
            print(f"  {line}", file=sys.stderr)
        raise SystemExit(1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; all are held until the last is found, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def anybody_listens(ports: list[int]) -> list[int]:
    taken = []
    for port in ports:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                taken.append(port)
    return taken


def invite(server: Server) -> None:
    print(f"""
The server is up; Ctrl-C stops it. Its log: {LOG.relative_to(ROOT)}

  models    {server.url}/v1/models
  metrics   {server.metrics}
  gRPC      {server.grpc} (Open Inference Protocol v2, as Triton's clients speak it)

  curl -s {server.url}/v1/embeddings -H 'Content-Type: application/json' \\
    -d '{{"model": "{search.MODEL}", "input": ["old hardware, new work"], "encoding_format": "float"}}'

  python3 {(FOLDER / "search.py").relative_to(ROOT)} --url {server.url} 'your own query'
""")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, opencl, opencl:N or cpu")
    device = parser.parse_args().device
    check = os.environ.get("CHECK", "") not in ("", "0") or not sys.stdout.isatty()

    sys.stdout.reconfigure(line_buffering=True)  # in order with what `afterglow devices` prints, into a pipe too
    LOG.parent.mkdir(exist_ok=True)
    ports = free_ports(3) if check else [8000, 8001, 8002]
    if taken := anybody_listens(ports):
        print(f"make run: port {taken[0]} is in use\n  hint: stop that server, or run with CHECK=1", file=sys.stderr)
        return 1

    with Server(device, ports) as server:
        server.wait_until_ready()
        if subprocess.run([BINARIES / "afterglow", "devices"], check=False).returncode != 0:
            server.give_up("a device failed its self-test (above)")
        print()  # then what of the model runs there
        if subprocess.run([BINARIES / "afterglow", "models", "--url", server.url], check=False).returncode != 0:
            server.give_up("the server does not say what it serves (above)")
        winners = search.search(server.url, list(search.QUERIES))
        if winners != list(search.QUERIES.values()):
            server.give_up("the ranking is not the expected one")
        if not check:
            invite(server)
            try:
                server.process.wait()
            except KeyboardInterrupt:
                print("\nstopping")
        server.stop()
    print("\nmake run: the model answered as expected and the server stopped cleanly")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
