"""Runs node cases in a process of its own (see `conformance.survey`).

Statuses: `claimed` every node ran on our provider · `claimed_constant` it did once the arguments were constants ·
`partly` some nodes did · `fell_back` none did · `unsupported` ONNX Runtime itself cannot run the case or disagrees with
it · `wrong` our fault.
"""

import ctypes
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import plugin

from conformance.cases import Case, Value, all_cases, mismatch
from conformance.survey import Outcome, serve

# What onnxruntime's Python interface carries as it is.
CARRIED = {
    "float16",
    "float32",
    "float64",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


# Element types that numpy does not have: their bytes go in and come out as unsigned integers.
AS_BYTES = {
    "bfloat16": ("tensor(bfloat16)", np.uint16),
    "float8_e4m3fn": ("tensor(float8e4m3fn)", np.uint8),
    "float8_e4m3fnuz": ("tensor(float8e4m3fnuz)", np.uint8),
    "float8_e5m2": ("tensor(float8e5m2)", np.uint8),
    "float8_e5m2fnuz": ("tensor(float8e5m2fnuz)", np.uint8),
}


class NotCarriedError(Exception):
    """The Python interface cannot carry a value of the case; says nothing about any provider."""


def session(case: Case, ours: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # The graph as it was written: what the optimiser removes would not be tested.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    model = case.model.SerializeToString()
    if not ours:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_provider_for_devices(plugin.devices()[:1], {})
    return ort.InferenceSession(model, options, enable_fallback=False)


def carried(value: Value) -> Value:
    """A value as onnxruntime takes it."""
    if isinstance(value, list):
        return [carried(v) for v in value]
    if isinstance(value, onnx.TensorProto):
        return carried(onnx.numpy_helper.to_array(value))
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind in "OUS":
        return array.astype(object)
    if array.dtype.name not in CARRIED and array.dtype.name not in AS_BYTES:
        raise NotCarriedError(f"a tensor of {array.dtype.name}")
    return array


def run(made: ort.InferenceSession, inputs: list[Value]) -> list[Value]:
    feeds = dict(zip([i.name for i in made.get_inputs()], map(carried, inputs), strict=False))
    odd = {kind: np.dtype(getattr(ml_dtypes, name)) for name, (kind, _) in AS_BYTES.items()}
    if not any(value.type in odd for value in (*made.get_inputs(), *made.get_outputs())):
        return made.run(None, feeds)
    values = {name: wrapped(value) for name, value in feeds.items()}
    names = [output.name for output in made.get_outputs()]
    given = made.run_with_ort_values(names, values)
    return [unwrapped(value, odd) for value in given]


def wrapped(value: Value) -> ort.OrtValue:
    if not isinstance(value, np.ndarray):
        raise NotCarriedError("a sequence beside a tensor that numpy does not have")
    if value.dtype.name not in AS_BYTES:
        return ort.OrtValue.ortvalue_from_numpy(value)
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    as_bytes = np.ascontiguousarray(value).view(AS_BYTES[value.dtype.name][1])
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(as_bytes, kind)


def unwrapped(value: ort.OrtValue, odd: dict[str, np.dtype]) -> Value:
    if value.data_type() not in odd:
        return value.numpy()
    dtype, shape = odd[value.data_type()], value.shape()
    content = ctypes.string_at(value.data_ptr(), int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def assigned(made: ort.InferenceSession) -> tuple[int, int]:
    """How many nodes run on our provider, and how many on others."""
    counts = [0, 0]
    for part in made.get_provider_graph_assignment_info():
        counts[part.ep_name != plugin.PROVIDER] += len(part.get_nodes())
    return counts[0], counts[1]


def attempt(case: Case, ours: bool) -> tuple[str | None, list[list[Value]], tuple[int, int]]:
    """Why a session does not give the expected outputs (or None), what it gave, and who ran how many nodes."""
    gave: list[list[Value]] = []
    share = (0, 0)
    try:
        made = session(case, ours)
        share = assigned(made) if ours else share
        for inputs, expected in case.data_sets:
            gave.append(run(made, inputs))
            if reason := mismatch(case, gave[-1], [carried(e) for e in expected]):
                return reason, gave, share
    except NotCarriedError:
        raise
    except Exception as error:
        # Whatever a provider raises is this case's outcome.
        return f"{type(error).__name__}: {error}".split("\n")[0], gave, share
    return None, gave, share


def outcome(case: Case) -> Outcome:
    try:
        reason, gave, (ours, others) = attempt(case, ours=True)
    except NotCarriedError as error:
        return Outcome(case.name, "unsupported", f"onnxruntime's Python interface does not carry {error}")
    if reason is None:
        if ours == 0 and (constant := with_constant_arguments(case)):
            again = outcome(constant)
            # If that fails in ONNX Runtime's hands, the case as it was written has been answered all the same.
            if again.status in ("claimed", "wrong"):
                return replace(again, status={"claimed": "claimed_constant"}.get(again.status, again.status))
        return Outcome(case.name, "fell_back" if ours == 0 else "claimed" if others == 0 else "partly")
    theirs, reference, _ = attempt(case, ours=False)
    if theirs is None:
        return Outcome(case.name, "wrong", reason)
    if ours == 0:
        # No node was ours, and ONNX Runtime alone fails as well.
        return Outcome(case.name, "unsupported", theirs)
    same = len(gave) == len(reference) and all(
        mismatch(case, a, b) is None for a, b in zip(gave, reference, strict=True)
    )
    if gave and same:
        return Outcome(case.name, "unsupported", f"ONNX Runtime's own answer differs as ours does: {theirs}")
    return Outcome(case.name, "wrong", f"{reason} (the CPU provider: {theirs})")


def with_constant_arguments(case: Case) -> Case | None:
    """The same case with every input but the first as a constant: that is how models give shapes, axes and bounds,
    which must be known before a plan is made."""
    if not case.is_single_node or len(case.data_sets) != 1:
        return None
    inputs, expected = case.data_sets[0]
    given = list(zip(case.model.graph.input, inputs, strict=False))
    if len(given) < 2 or not all(isinstance(value, np.ndarray) for _, value in given):
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    del model.graph.input[1:]
    for argument, value in given[1:]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, argument.name))
    return replace(case, model=model, data_sets=[(inputs[:1], expected)])


def main() -> None:
    # Without a device every case would fail; that is no outcome of any.
    plugin.devices()
    cases = all_cases()
    serve(lambda name: outcome(cases[name]))


if __name__ == "__main__":
    main()
