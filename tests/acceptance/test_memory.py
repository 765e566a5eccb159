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

        # The allocator, the thread pools and the program cache reach their size in the first rounds.
        for _ in range(5):
            round_trip()
        resident, held = resident_bytes(server), device_bytes(server)
        for _ in range(ROUNDS):
            round_trip()
        resident_after, held_after = resident_bytes(server), device_bytes(server)

    figure(f"{ROUNDS} loads and unloads on {device}: resident {resident >> 20} → {resident_after >> 20} MiB, "
           f"device {held:.0f} → {held_after:.0f} bytes")  # fmt: skip
    assert resident_after <= 1.05 * resident
    assert held_after <= 1.05 * held
