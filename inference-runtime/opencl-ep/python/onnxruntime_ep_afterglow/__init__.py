"""Afterglow's OpenCL execution provider for ONNX Runtime.

    import onnxruntime as ort
    import onnxruntime_ep_afterglow as afterglow

    ort.register_execution_provider_library("afterglow.virtual", afterglow.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == afterglow.get_ep_name()]
    options = ort.SessionOptions()
    options.add_provider_for_devices(devices[:1], {})
    session = ort.InferenceSession("model.onnx", options, enable_fallback=False)

The functions are those of ONNX Runtime's packaging guidance for plugin execution providers. This package holds the
library and nothing else: it works with the onnxruntime package you have installed (1.24 or newer), and imports none.
"""

from pathlib import Path

__all__ = ["get_ep_name", "get_ep_names", "get_library_path"]

_LIBRARY = Path(__file__).parent / "libafterglow_opencl_ep.so"
_NAME = "AfterglowPluginExecutionProvider"


def get_library_path() -> str:
    """The library, for `onnxruntime.register_execution_provider_library`."""
    return str(_LIBRARY)


def get_ep_name() -> str:
    """The provider's name, as in `OrtEpDevice.ep_name`."""
    return _NAME


def get_ep_names() -> list[str]:
    """The names of all providers in the library: one."""
    return [_NAME]
