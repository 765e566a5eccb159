"""Small models, each for one thing a server or an execution provider may get wrong. The README lists them."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.graph import BOOL, FLOAT, INT32, INT64, STRING, Graph

# What the wire calls them → what ONNX calls them.
DATATYPES = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE, "BYTES": TensorProto.STRING,
}  # fmt: skip


def identity(kind: int) -> onnx.ModelProto:
    g = Graph()
    g.op("Identity", g.input("x", kind, ["batch", "n"]), name=g.output("y", kind, ["batch", "n"]))
    return g.model("identity")


def simple() -> onnx.ModelProto:
    """Triton's own example model: sum and difference of two rows of 16 integers."""
    g = Graph()
    a, b = (g.input(name, INT32, ["batch", 16]) for name in ("INPUT0", "INPUT1"))
    g.op("Add", a, b, name=g.output("OUTPUT0", INT32, ["batch", 16]))
    g.op("Sub", a, b, name=g.output("OUTPUT1", INT32, ["batch", 16]))
    return g.model("simple")


def elementwise(kind: str, datatype: int, inputs: int = 2) -> onnx.ModelProto:
    g = Graph()
    names = [g.input(name, datatype, ["batch", "n"]) for name in ("a", "b")[:inputs]]
    g.op(kind, *names, name=g.output("y", datatype, ["batch", "n"]))
    return g.model(kind.lower())


def increment() -> onnx.ModelProto:
    """y = x + 1 on one number a row: what a run costs when the work costs nothing."""
    g = Graph()
    g.op("Add", g.input("x", FLOAT, ["batch", 1]), g.weight("one", 1.0), name=g.output("y", FLOAT, ["batch", 1]))
    return g.model("increment")


def scalars() -> onnx.ModelProto:
    """Tensors of rank 0 in and out; there is no batch."""
    g = Graph()
    g.op("Mul", g.input("a", FLOAT, []), g.input("b", FLOAT, []), name=g.output("product", FLOAT, []))
    return g.model("scalars")


def fixed_shape() -> onnx.ModelProto:
    """[3, 4] and nothing else: a model that cannot be batched."""
    g = Graph()
    w = g.weight("w", np.arange(8).reshape(4, 2))
    g.op("MatMul", g.input("x", FLOAT, [3, 4]), w, name=g.output("y", FLOAT, [3, 2]))
    return g.model("fixed_shape")


def uppercase() -> onnx.ModelProto:
    g = Graph()
    x, y = g.input("text", STRING, ["n"]), g.output("upper", STRING, ["n"])
    # The default locale, en_US.UTF-8, is not installed everywhere; C always is.
    g.op("StringNormalizer", x, name=y, case_change_action="UPPER", is_case_sensitive=1, locale="C")
    return g.model("uppercase")


def classify() -> onnx.ModelProto:
    """Numbers in, text out: the name of the largest of three, after they changed places in a MatMul."""
    g = Graph()
    w = g.weight("w", np.eye(3)[[1, 2, 0]])
    mixed = g.op("MatMul", g.input("scores", FLOAT, ["batch", 3]), w, name="mixed")
    best = g.op("ArgMax", mixed, name="best", axis=1, keepdims=0)
    g.weights.append(helper.make_tensor("labels", STRING, [3], [b"cat", "Füchse".encode(), b""]))
    g.op("Gather", "labels", best, name=g.output("label", STRING, ["batch"]))
    return g.model("classify")


def gather() -> onnx.ModelProto:
    """Rows of a 10-row table; an index outside −10…9 must be refused on every device."""
    g = Graph()
    table = g.weight("table", np.arange(40).reshape(10, 4))
    g.op("Gather", table, g.input("rows", INT64, ["batch", "n"]), name=g.output("y", FLOAT, ["batch", "n", 4]))
    return g.model("gather")


def scatter() -> onnx.ModelProto:
    """Writes `updates` to 8 zeros at `places`; places outside −8…7 must be refused."""
    g = Graph()
    zeros = g.weight("zeros", np.zeros((1, 8)))
    places, updates = g.input("places", INT64, [1, "n"]), g.input("updates", FLOAT, [1, "n"])
    g.op("ScatterElements", zeros, places, updates, name=g.output("y", FLOAT, [1, 8]), axis=1)
    return g.model("scatter")


def layer_norm_decomposed() -> onnx.ModelProto:
    """LayerNormalization as exporters wrote it before opset 17, with residual and GELU around it."""
    g = Graph()
    random = np.random.default_rng(1)
    x = g.input("x", FLOAT, ["batch", "sequence", 64])
    mean = g.op("ReduceMean", x, name="mean", axes=[-1])
    centred = g.op("Sub", x, mean, name="centred")
    squared = g.op("Pow", centred, g.weight("two", 2.0), name="squared")
    variance = g.op("ReduceMean", squared, name="variance", axes=[-1])
    shifted = g.op("Add", variance, g.weight("epsilon", 1e-5), name="shifted")
    normed = g.op("Div", centred, g.op("Sqrt", shifted, name="deviation"), name="normed")
    scaled = g.op("Mul", normed, g.weight("scale", 1 + 0.1 * random.standard_normal(64)), name="scaled")
    biased = g.op("Add", scaled, g.weight("bias", 0.1 * random.standard_normal(64)), name="biased")
    dense = g.op("MatMul", biased, g.weight("w", random.standard_normal((64, 64)) / 8), name="dense")
    erf = g.op("Erf", g.op("Div", dense, g.weight("root", np.sqrt(2.0)), name="divided"), name="erf")
    gated = g.op("Mul", dense, g.op("Add", erf, g.weight("one", 1.0), name="erf1"), name="gated")
    gelu = g.op("Mul", gated, g.weight("half", 0.5), name="gelu")
    g.op("Add", gelu, x, name=g.output("y", FLOAT, ["batch", "sequence", 64]))
    return g.model("layer_norm_decomposed")


def perceptron() -> onnx.ModelProto:
    """Gemm, Relu, Gemm, Softmax."""
    g = Graph()
    random = np.random.default_rng(2)
    w1, b1 = g.weight("w1", random.standard_normal((32, 64)) / 6), g.weight("b1", random.standard_normal(64))
    w2, b2 = g.weight("w2", random.standard_normal((64, 10)) / 8), g.weight("b2", random.standard_normal(10))
    hidden = g.op("Relu", g.op("Gemm", g.input("x", FLOAT, ["batch", 32]), w1, b1, name="h"), name="hidden")
    logits = g.op("Gemm", hidden, w2, b2, name="logits")
    g.op("Softmax", logits, name=g.output("y", FLOAT, ["batch", 10]), axis=-1)
    return g.model("perceptron")


def branch() -> onnx.ModelProto:
    """If: doubled when the sum is positive, negated otherwise, with a MatMul before and after."""
    then, other = Graph(), Graph()
    then.op("Add", "projected", "projected", name=then.output("doubled", FLOAT, ["batch", 4]))
    other.op("Neg", "projected", name=other.output("negated", FLOAT, ["batch", 4]))
    g = Graph()
    w = g.weight("w", np.arange(16).reshape(4, 4) / 8 - 1)
    projected = g.op("MatMul", g.input("x", FLOAT, ["batch", 4]), w, name="projected")
    total = g.op("ReduceSum", projected, name="total", keepdims=0)
    positive = g.op("Greater", total, g.weight("zero", 0.0), name="positive")
    g.op("If", positive, name="chosen", then_branch=then.body("then"), else_branch=other.body("else"))
    g.op("MatMul", "chosen", w, name=g.output("y", FLOAT, ["batch", 4]))
    return g.model("branch")


def loop() -> onnx.ModelProto:
    """Loop: multiplies by a matrix once, then as often as `times` says, and lists the largest entry of each step."""
    body = Graph()
    body.input("step", INT64, [])
    body.input("going", BOOL, [])
    state = body.input("state", FLOAT, ["batch", 4])
    body.op("Identity", "going", name=body.output("still_going", BOOL, []))
    body.op("MatMul", state, "w", name=body.output("next", FLOAT, ["batch", 4]))
    body.op("ReduceMax", "next", name=body.output("largest", FLOAT, []), keepdims=0)
    g = Graph()
    g.weight("w", np.eye(4) + np.eye(4, k=1) / 2)
    times, x = g.input("times", INT64, []), g.input("x", FLOAT, ["batch", 4])
    once = g.op("MatMul", x, "w", name="once")
    outputs = [g.output("y", FLOAT, ["batch", 4]), g.output("peaks", FLOAT, ["steps"])]
    g.op("Loop", times, "", once, name=outputs, body=body.body("body"))
    return g.model("loop")


def recurrent(kind: str, gates: int) -> onnx.ModelProto:
    """LSTM or GRU between two projections; input [batch, sequence, 8]."""
    g = Graph()
    random = np.random.default_rng(gates)
    hidden = 16

    def weight(name: str, *shape: int) -> str:
        return g.weight(name, random.standard_normal(shape) / np.sqrt(shape[-1]))

    x = g.op("MatMul", g.input("x", FLOAT, ["batch", "sequence", 8]), weight("in", 8, 8), name="projected")
    x = g.op("Transpose", x, name="by_time", perm=[1, 0, 2])
    weights = [weight("W", 1, gates * hidden, 8), weight("R", 1, gates * hidden, hidden)]
    bias = g.weight("B", 0.1 * random.standard_normal((1, 2 * gates * hidden)))
    g.op(kind, x, *weights, bias, name=["steps", "last"], hidden_size=hidden)
    last = g.op("Squeeze", "last", g.weight("0", [0], np.int64), name="last.flat")
    g.op("MatMul", last, weight("out", hidden, 4), name=g.output("y", FLOAT, ["batch", 4]))
    return g.model(kind.lower())


def nonzero() -> onnx.ModelProto:
    """How many outputs there are depends on the data: the values above 0 after a MatMul, and where they are."""
    g = Graph()
    w = g.weight("w", [[1, -1], [0, 2]])
    product = g.op("MatMul", g.input("x", FLOAT, ["rows", 2]), w, name="product")
    x = g.op("Relu", product, name="rectified")
    places = g.op("NonZero", x, name=g.output("places", INT64, [2, "found"]))
    g.op("GatherND", x, g.op("Transpose", places, name="rows"), name=g.output("values", FLOAT, ["found"]))
    return g.model("nonzero")


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{f"identity_{name.lower()}": lambda kind=kind: identity(kind) for name, kind in DATATYPES.items()},
    "add_fp16": lambda: elementwise("Add", TensorProto.FLOAT16),
    "add_fp32": lambda: elementwise("Add", TensorProto.FLOAT),
    "add_int64": lambda: elementwise("Add", TensorProto.INT64),
    "add_uint8": lambda: elementwise("Add", TensorProto.UINT8),
    "and_bool": lambda: elementwise("And", TensorProto.BOOL),
    "not_bool": lambda: elementwise("Not", TensorProto.BOOL, inputs=1),
    "branch": branch,
    "classify": classify,
    "fixed_shape": fixed_shape,
    "gather": gather,
    "gru": lambda: recurrent("GRU", 3),
    "increment": increment,
    "layer_norm_decomposed": layer_norm_decomposed,
    "loop": loop,
    "lstm": lambda: recurrent("LSTM", 4),
    "nonzero": nonzero,
    "perceptron": perceptron,
    "scalars": scalars,
    "scatter": scatter,
    "simple": simple,
    "uppercase": uppercase,
}
