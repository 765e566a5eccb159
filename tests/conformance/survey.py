"""Cases through worker processes; a crash is one case's outcome, not the end of the survey.

A worker is a module that is run with `python -m`. It reads case names from standard input, one a line, and answers on
standard output with one JSON object a line: first `{"begins": NAME}`, then the outcome. Whoever reads knows which
case a sudden end belongs to.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

TESTS = Path(__file__).parents[1]

# One case compiles a few kernels; a minute is far beyond any, and less than forever.
PATIENCE_S = 120


@dataclass
class Outcome:
    """What became of one case."""

    name: str
    # The worker's own word; `crash` if its process died or hung.
    status: str
    detail: str = ""
    # Whatever else the worker tells, e.g. operators it met.
    notes: dict[str, int] = field(default_factory=dict)


def survey(worker: str, names: list[str], processes: int | None = None) -> dict[str, Outcome]:
    """The outcome of each case, in the given order."""
    processes = processes or max(1, os.cpu_count() or 1)
    shares = [names[i::processes] for i in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        done = pool.map(lambda share: list(run(worker, share)), shares)
        outcomes = {outcome.name: outcome for share in done for outcome in share}
    return {name: outcomes[name] for name in names}


def run(worker: str, names: list[str]) -> Iterator[Outcome]:
    """Outcomes of these cases; a worker that dies is replaced and goes on behind the case that killed it."""
    left = list(names)
    while left:
        done, culprit = [], None
        for answer in answers(worker, left):
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
            raise RuntimeError(f"{worker} ended before its first case: its standard error says why")


def answers(module: str, names: list[str]) -> Iterator[dict]:
    command = [sys.executable, "-m", module]
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


def serve(outcome_of: Callable[[str], Outcome]) -> None:
    """The worker's side."""
    # Libraries print to standard output; the protocol gets a descriptor of its own.
    protocol = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name = line.strip()
        print(json.dumps({"begins": name}), file=protocol, flush=True)
        print(json.dumps(asdict(outcome_of(name))), file=protocol, flush=True)
