"""Prints what this machine does, now: OpenCL against ONNX Runtime's CPU provider, in turns, and our cost per run.

No claim goes beyond the machine and the minute it ran in.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[1]))

import plugin

from models.small import increment
from quickstart_model import FOLDER, NAME
from serving import BINARIES, serve

TEXT = "Graphics cards that were built for games still have working memory and a free driver."
RUNS = 2000


def servers(duration: str = "3s") -> None:
    """The quickstart's model behind two servers, loaded A B A B; the ratio is what to look at."""
    logs = Path(tempfile.mkdtemp(prefix="afterglow-bench-"))
    folder = FOLDER.parents[2]
    with serve(folder, logs / "opencl.log", "opencl") as ours, serve(folder, logs / "cpu.log", "cpu") as theirs:
        for concurrency in (1, 8):
            command = [BINARIES / "afterglow", "bench", NAME, "--text", TEXT, "--url", ours.url, "--versus", theirs.url]
            command += ["--concurrency", str(concurrency), "--turns", "3", "--duration", duration]
            print(f"\nA: OpenCL, B: CPU; {concurrency} at a time", flush=True)
            subprocess.run(command, check=True)


def overhead() -> None:
    """y = x + 1 on one number: the difference to the CPU provider is what our provider costs per run."""
    model = increment().SerializeToString()
    feeds = {"x": np.ones((1, 1), np.float32)}

    def microseconds(session: onnxruntime.InferenceSession) -> float:
        for _ in range(100):
            session.run(None, feeds)
        times = []
        for _ in range(RUNS):
            start = time.perf_counter_ns()
            session.run(None, feeds)
            times.append(time.perf_counter_ns() - start)
        return float(np.median(times)) / 1e3

    ours, theirs = microseconds(plugin.session(model)), microseconds(plugin.cpu_session(model))
    print(
        f"\nx + 1, median of {RUNS} runs: OpenCL {ours:.0f} µs, CPU {theirs:.0f} µs, difference {ours - theirs:.0f} µs"
    )


if __name__ == "__main__":
    overhead()
    servers()
