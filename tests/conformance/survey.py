"""All node cases through worker processes; a crash is one case's outcome, not the end of the survey."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from conformance.worker import Outcome

TESTS = Path(__file__).parents[1]

# One case compiles a few kernels; a minute is far beyond any, and less than forever.
PATIENCE_S = 120


def survey(names: list[str], workers: int | None = None) -> dict[str, Outcome]:
    """The outcome of each case, in the given order."""
    workers = workers or max(1, os.cpu_count() or 1)
    shares = [names[i::workers] for i in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        outcomes = {o.name: o for share in pool.map(lambda share: list(run(share)), shares) for o in share}
    return {name: outcomes[name] for name in names}


def run(names: list[str]) -> Iterator[Outcome]:
    """Outcomes of these cases; a worker that dies is replaced and goes on behind the case that killed it."""
    left = list(names)
    while left:
        done, culprit = [], None
        for answer in answers(left):
            if "begins" in answer:
                culprit = answer["begins"]
            else:
                culprit = None
                done.append(answer["name"])
                yield Outcome(**answer)
        left = left[len(done) :]
        if culprit is not None:
            yield Outcome(culprit, "crash", "the process died or hung")
            left = left[1:]
        elif left and not done:
            raise RuntimeError("a worker ended before its first case: its standard error says why")


def answers(names: list[str]) -> Iterator[dict]:
    command = [sys.executable, "-m", "conformance.worker"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=TESTS
    ) as worker:
        # All names at once would fill the pipe while nobody reads.
        feeder = threading.Thread(target=feed, args=(worker.stdin, names), daemon=True)
        feeder.start()
        while line := first_line(worker):
            yield json.loads(line)


def feed(stdin: IO[str], names: list[str]) -> None:
    try:
        with stdin:
            stdin.writelines(f"{name}\n" for name in names)
    except BrokenPipeError:
        pass  # the worker died; whoever reads its answers finds out which case did it


def first_line(worker: subprocess.Popen) -> str:
    """The next line, or nothing if the worker has ended; a worker that stays silent for too long is ended."""
    watchdog = threading.Timer(PATIENCE_S, worker.kill)
    watchdog.start()
    try:
        return worker.stdout.readline()
    finally:
        watchdog.cancel()
