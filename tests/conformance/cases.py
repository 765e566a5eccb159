"""The node tests of the `onnx` package: a small model each, inputs, expected outputs and a tolerance."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

# What a data set may hold: tensors, sequences of them, or nothing (an empty optional).
Value = np.ndarray | list | None


@dataclass(frozen=True)
class Case:
    """One node test."""

    name: str
    model: onnx.ModelProto
    data_sets: list[tuple[list[Value], list[Value]]]
    rtol: float
    atol: float

    @property
    def operators(self) -> list[str]:
        """The operators of its nodes, with their domain unless it is ONNX's own."""
        return sorted({qualified(node) for node in self.model.graph.node})

    @property
    def is_single_node(self) -> bool:
        """Several nodes are an operator's definition written out in simpler ones."""
        return len(self.model.graph.node) == 1


# What ONNX Runtime 1.31 reads; the package is newer.
NEWEST_IR, NEWEST_OPSET = 13, 26


def readable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model for ONNX Runtime. Many cases are stamped with an opset that it does not read yet, most often
    because an operator has learnt another element type since: they get the newest opset it reads. A case that needs
    what came later (an operator, an attribute, a type) is refused by ONNX Runtime, and counts as such."""
    if all(opset.domain != "" or opset.version <= NEWEST_OPSET for opset in model.opset_import):
        return model
    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.ir_version = min(older.ir_version, NEWEST_IR)
    for opset in older.opset_import:
        if opset.domain == "":
            opset.version = min(opset.version, NEWEST_OPSET)
    return older


def qualified(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


@cache
def all_cases() -> dict[str, Case]:
    """Every case by name, in the package's order. Some draw random inputs: the seed makes them the same every time."""
    np.random.seed(0)
    with warnings.catch_warnings():
        # Cases about infinities and overflow divide by zero while they are made.
        warnings.simplefilter("ignore", RuntimeWarning)
        collected = collect_testcases(None)
    return {c.name: Case(c.name, readable(c.model), c.data_sets, c.rtol, c.atol) for c in collected}


def mismatch(case: Case, outputs: list[Value], expected: list[Value]) -> str | None:
    """Why these outputs are not the expected ones, or None."""
    if len(outputs) != len(expected):
        return f"{len(outputs)} outputs instead of {len(expected)}"
    for i, (ours, theirs) in enumerate(zip(outputs, expected, strict=True)):
        for reason in differences(ours, theirs, case.rtol, case.atol):
            return f"output {i}: {reason}"
    return None


def differences(ours: Value, theirs: Value, rtol: float, atol: float) -> Iterator[str]:
    if isinstance(theirs, list) or isinstance(ours, list):
        if not isinstance(ours, list) or not isinstance(theirs, list) or len(ours) != len(theirs):
            yield f"a {type(ours).__name__} instead of a {type(theirs).__name__} of the same length"
            return
        for a, b in zip(ours, theirs, strict=True):
            yield from differences(a, b, rtol, atol)
        return
    if ours is None or theirs is None:
        if ours is not theirs:
            yield f"{'nothing' if ours is None else 'a value'} instead of {'nothing' if theirs is None else 'a value'}"
        return
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        yield f"shape {list(ours.shape)} instead of {list(theirs.shape)}"
    elif ours.dtype.kind in "OUS" or theirs.dtype.kind in "OUS":
        if not np.array_equal(ours.astype(object), theirs.astype(object)):
            yield "other texts"
    elif ours.dtype != theirs.dtype:
        yield f"type {ours.dtype} instead of {theirs.dtype}"
    elif not np.allclose(ours.astype(wide(ours)), theirs.astype(wide(theirs)), rtol=rtol, atol=atol, equal_nan=True):
        yield f"other values: {brief(ours)} instead of {brief(theirs)}"


def wide(array: np.ndarray) -> type:
    """A type in which numpy can compare: it knows bfloat16 and float8 by name only."""
    if array.dtype.kind == "c":
        return np.complex128
    # int64 and uint64 do not fit into float64; they are compared as they are.
    return array.dtype.type if array.dtype.kind in "iub" else np.float64


def brief(array: np.ndarray) -> str:
    return np.array2string(array.ravel(), threshold=8, edgeitems=4, precision=6).replace("\n", "")
