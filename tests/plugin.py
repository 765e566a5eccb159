"""Our execution provider inside the PyPI package onnxruntime, as any Python program would use it."""

from functools import cache
from pathlib import Path

import onnxruntime as ort

from serving import BINARIES

PROVIDER = "AfterglowPluginExecutionProvider"
LIBRARY = BINARIES / "libafterglow_opencl_ep.so"


@cache
def devices() -> list[ort.OrtEpDevice]:
    """Registers the library once a process; the suffix asks for devices that ONNX Runtime itself does not discover."""
    ort.register_execution_provider_library("afterglow.virtual", str(LIBRARY))
    ours = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    assert ours, "the provider offers no device: is an OpenCL runtime installed?"
    return ours


def session(model: Path | bytes) -> ort.InferenceSession:
    """A session on our first device. What fails stays a failure instead of moving to the CPU."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_provider_for_devices(devices()[:1], {})
    return ort.InferenceSession(model, options, enable_fallback=False)


def cpu_session(model: Path | bytes) -> ort.InferenceSession:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def partitions(session: ort.InferenceSession) -> list[int]:
    """How many nodes each of our partitions holds."""
    return [len(part.get_nodes()) for part in session.get_provider_graph_assignment_info() if part.ep_name == PROVIDER]


def left_on_cpu(session: ort.InferenceSession) -> list[str]:
    """The operators of the nodes that ONNX Runtime kept."""
    parts = session.get_provider_graph_assignment_info()
    return sorted(node.op_type for part in parts if part.ep_name != PROVIDER for node in part.get_nodes())
