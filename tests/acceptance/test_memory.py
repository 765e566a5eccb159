"""Loading and unloading leaves nothing behind."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http

from models.make_models import make
from serving import Server, serve

NAME = "mobilenet_v2"
ROUNDS = 50
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(server: Server) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * PAGE


def device_bytes(server: Server) -> float:
    """Of a card, as its driver says; a device without memory of its own lives in the resident bytes."""
    used = [line for line in server.metric_lines() if line.startswith("nv_gpu_memory_used_bytes")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in used)


@pytest.mark.parametrize("device", ["opencl", "cpu"])
def test_fifty_loads_and_unloads_return_the_memory(tmp_path: Path, device: str, figure: Callable[[str], None]) -> None:
    make(tmp_path / "models", [NAME])
    tensor = tritonclient.http.InferInput("input", [1, 3, 224, 224], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3, 224, 224), np.float32))
    with (
        serve(tmp_path / "models", tmp_path / "engine.log", device) as server,
        tritonclient.http.InferenceServerClient(server.http, network_timeout=300) as client,
    ):

        def round_trip() -> None:
            client.load_model(NAME)
            client.infer(NAME, [tensor])
            client.unload_model(NAME)

        def resident_after(rounds: int) -> int:
            left = []
            for _ in range(rounds):
                round_trip()
                left.append(resident_bytes(server))
            # After one round in thirty an allocator keeps what it was just given until the next: see `heap.rs`.
            return min(left[-5:])

        # The allocator, the thread pools and the program cache reach their size in the first rounds.
        before, held = resident_after(10), device_bytes(server)
        after, held_after = resident_after(ROUNDS), device_bytes(server)

    figure(f"{ROUNDS} loads and unloads on {device}: resident {before >> 20} → {after >> 20} MiB, "
           f"device {held:.0f} → {held_after:.0f} bytes")  # fmt: skip
    assert after <= 1.05 * before
    assert held_after <= 1.05 * held
