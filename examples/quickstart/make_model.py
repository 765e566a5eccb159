"""Writes all-MiniLM-L6-v2 as ONNX: the weights as they are published, the graph written out below.

    make_model.py SOURCE DESTINATION

SOURCE is a folder in sentence-transformers' layout (config.json, model.safetensors, tokenizer.json, …); DESTINATION
becomes a model version folder: model.onnx and the files that say how to tokenise, pool and normalise. The same source
gives the same bytes. Every BERT encoder with absolute positions and erf-GELU converts, not only this one.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

OPSET = 17  # the first with LayerNormalization as one operator
IR_VERSION = 8  # the one that belongs to opset 17

# What the server reads beside the graph: tokenizer, longest text, pooling, normalisation.
COMPANIONS = ("tokenizer.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json")


class Graph:
    """Collects nodes in the order they are called; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def scalar(self, value: float) -> str:
        return self.weight(f"scalar {value!r}", np.float32(value))

    def integers(self, *values: int) -> str:
        return self.weight(f"integers {list(values)}", np.array(values, dtype=np.int64))

    def op(self, kind: str, *inputs: str, name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name


class Bert:
    """The encoder of BERT (Devlin et al. 2018): embeddings, then layers of attention and feed-forward, post-normed."""

    def __init__(self, config: dict, weights: dict[str, np.ndarray]) -> None:
        kind = (config["model_type"], config["hidden_act"], config["position_embedding_type"])
        if kind != ("bert", "gelu", "absolute"):
            raise SystemExit("make_model.py: only BERT with absolute positions and erf-GELU is written out here")
        self.config = config
        self.weights = weights
        self.graph = Graph()

    def encode(self) -> str:
        """→ last_hidden_state [batch, sequence, hidden]"""
        hidden = self.embed()
        masked = self.mask()
        for layer in range(self.config["num_hidden_layers"]):
            hidden = self.layer(hidden, masked, f"encoder.layer.{layer}")
        return self.graph.op("Identity", hidden, name="last_hidden_state")

    def embed(self) -> str:
        g = self.graph
        words = g.op("Gather", self.table("word"), "input_ids", name="words")
        types = g.op("Gather", self.table("token_type"), "token_type_ids", name="types")
        length = g.op("Shape", "input_ids", name="length", start=1, end=2)
        positions = g.op("Slice", self.table("position"), g.integers(0), length, g.integers(0), name="positions")
        typed = g.op("Add", words, types, name="typed")
        placed = g.op("Add", typed, positions, name="placed")
        return self.normalised(placed, "embeddings.LayerNorm")

    def mask(self) -> str:
        """→ [batch, 1, 1, sequence]: 0 where there is a token, the lowest float where there is padding."""
        g = self.graph
        present = g.op("Cast", "attention_mask", name="present", to=TensorProto.FLOAT)
        present = g.op("Unsqueeze", present, g.integers(1, 2), name="present.heads")
        absent = g.op("Sub", g.scalar(1.0), present, name="absent")
        return g.op("Mul", absent, g.weight("lowest", np.finfo(np.float32).min), name="masked")

    def layer(self, hidden: str, masked: str, prefix: str) -> str:
        g = self.graph
        attended = self.attention(hidden, masked, f"{prefix}.attention")
        wide = self.gelu(self.linear(attended, f"{prefix}.intermediate.dense"), f"{prefix}.gelu")
        narrow = self.linear(wide, f"{prefix}.output.dense")
        return self.normalised(g.op("Add", narrow, attended, name=f"{prefix}.sum"), f"{prefix}.output.LayerNorm")

    def attention(self, hidden: str, masked: str, prefix: str) -> str:
        g = self.graph
        width = self.config["hidden_size"] // self.config["num_attention_heads"]
        query = self.heads(hidden, f"{prefix}.self.query", perm=[0, 2, 1, 3])
        key = self.heads(hidden, f"{prefix}.self.key", perm=[0, 2, 3, 1])  # ready to be the right side of a product
        value = self.heads(hidden, f"{prefix}.self.value", perm=[0, 2, 1, 3])

        scores = g.op("MatMul", query, key, name=f"{prefix}.scores")
        scores = g.op("Mul", scores, g.scalar(1.0 / math.sqrt(width)), name=f"{prefix}.scores.scaled")
        scores = g.op("Add", scores, masked, name=f"{prefix}.scores.masked")
        shares = g.op("Softmax", scores, name=f"{prefix}.shares", axis=-1)
        mixed = g.op("MatMul", shares, value, name=f"{prefix}.mixed")

        mixed = g.op("Transpose", mixed, name=f"{prefix}.mixed.rows", perm=[0, 2, 1, 3])
        mixed = g.op("Reshape", mixed, g.integers(0, 0, self.config["hidden_size"]), name=f"{prefix}.joined")
        projected = self.linear(mixed, f"{prefix}.output.dense")
        return self.normalised(g.op("Add", projected, hidden, name=f"{prefix}.sum"), f"{prefix}.output.LayerNorm")

    def heads(self, hidden: str, prefix: str, perm: list[int]) -> str:
        """[batch, sequence, hidden] → [batch, sequence, heads, width] → permuted"""
        g = self.graph
        count = self.config["num_attention_heads"]
        split = g.integers(0, 0, count, self.config["hidden_size"] // count)  # 0 keeps the dimension
        split = g.op("Reshape", self.linear(hidden, prefix), split, name=f"{prefix}.split")
        return g.op("Transpose", split, name=f"{prefix}.heads", perm=perm)

    def linear(self, x: str, prefix: str) -> str:
        g = self.graph
        product = g.op("MatMul", x, self.weight(f"{prefix}.weight", transposed=True), name=f"{prefix}.product")
        return g.op("Add", product, self.weight(f"{prefix}.bias"), name=prefix)

    def gelu(self, x: str, prefix: str) -> str:
        """x · ½ · (1 + erf(x / √2)); the operator Gelu came only with opset 20"""
        g = self.graph
        scaled = g.op("Div", x, g.scalar(math.sqrt(2.0)), name=f"{prefix}.scaled")
        shifted = g.op("Add", g.op("Erf", scaled, name=f"{prefix}.erf"), g.scalar(1.0), name=f"{prefix}.shifted")
        gated = g.op("Mul", x, shifted, name=f"{prefix}.gated")
        return g.op("Mul", gated, g.scalar(0.5), name=prefix)

    def normalised(self, x: str, prefix: str) -> str:
        scale, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        epsilon = self.config["layer_norm_eps"]
        return self.graph.op("LayerNormalization", x, scale, bias, name=prefix, axis=-1, epsilon=epsilon)

    def table(self, kind: str) -> str:
        return self.weight(f"embeddings.{kind}_embeddings.weight")

    def weight(self, name: str, transposed: bool = False) -> str:
        """Linear layers are stored [out, in]; MatMul wants [in, out]."""
        value = self.weights[name]
        return self.graph.weight(name, value.T if transposed else value)

    def model(self) -> onnx.ModelProto:
        output = self.encode()
        tokens = ["batch", "sequence"]
        names = ("input_ids", "attention_mask", "token_type_ids")
        graph = helper.make_graph(
            self.graph.nodes,
            "bert",
            [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in names],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [*tokens, self.config["hidden_size"]])],
            list(self.graph.weights.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="afterglow")


def main(source: Path, destination: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    model = Bert(config, load_file(source / "model.safetensors")).model()
    onnx.checker.check_model(model, full_check=True)

    for companion in COMPANIONS:
        target = destination / companion
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / companion, target)
    partial = destination / "model.onnx.partial"
    partial.write_bytes(model.SerializeToString(deterministic=True))
    partial.rename(destination / "model.onnx")  # last and at once: a model.onnx that exists is whole


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
