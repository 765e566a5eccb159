"""Model folders that must be refused, each with a reason a user can act on, while their neighbours are served."""

from collections.abc import Callable
from pathlib import Path

from onnx import helper

from models.graph import FLOAT, Graph
from models.small import perceptron


def truncated(version: Path) -> None:
    model = perceptron().SerializeToString(deterministic=True)
    (version / "model.onnx").write_bytes(model[: len(model) // 2])


def empty_file(version: Path) -> None:
    (version / "model.onnx").write_bytes(b"")


def not_onnx(version: Path) -> None:
    (version / "model.onnx").write_text("This is a text file.\n" * 100)


def no_model_file(version: Path) -> None:
    (version / "README.md").write_text("The model is somewhere else.\n")


def unknown_operator(version: Path) -> None:
    """Valid protobuf, an operator that no provider has."""
    g = Graph()
    x, y = g.input("x", FLOAT, ["batch", 4]), g.output("y", FLOAT, ["batch", 4])
    node = helper.make_node("FlashTurbo", [x], [y], domain="com.example")
    graph = helper.make_graph([node], "unknown_operator", g.inputs, g.outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (version / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def embedding_without_tokenizer(version: Path) -> None:
    (version / "model.onnx").write_bytes(perceptron().SerializeToString(deterministic=True))
    (version.parent / "model.yaml").write_text("task: embedding\n")


def unknown_setting(version: Path) -> None:
    """A key that nobody honours must not be taken silently."""
    (version / "model.onnx").write_bytes(perceptron().SerializeToString(deterministic=True))
    (version.parent / "model.yaml").write_text("batchng: { maxBatchSize: 8 }\n")


BROKEN: dict[str, Callable[[Path], None]] = {
    writer.__name__: writer
    for writer in (
        truncated, empty_file, not_onnx, no_model_file, unknown_operator, embedding_without_tokenizer, unknown_setting
    )
}  # fmt: skip
