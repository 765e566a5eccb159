"""A few lines around `onnx.helper`: name, inputs, outputs, nodes and weights become a checked model."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
STRING = TensorProto.STRING

Shape = Sequence[int | str]


@dataclass
class Graph:
    """Nodes in the order they are added; `op` names a node after its first output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def input(self, name: str, kind: int, shape: Shape) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: Shape) -> str:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, name: str, value: np.ndarray | Sequence | float, dtype: type = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype=dtype)), name))
        return name

    def op(self, kind: str, *inputs: str, name: str | Sequence[str], **attributes: object) -> str:
        """Adds a node and returns its first output; `name` is one output or the list of them."""
        outputs = [name] if isinstance(name, str) else list(name)
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs[0]

    def body(self, name: str) -> onnx.GraphProto:
        """The bare graph, as the body of a Loop or the branch of an If."""
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.weights)

    def model(self, name: str) -> onnx.ModelProto:
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            self.body(name), opset_imports=[opset], ir_version=IR_VERSION, producer_name="afterglow tests"
        )
        onnx.checker.check_model(model, full_check=True)
        return model
