"""Odd models in every encoding a client may choose, against ONNX Runtime's CPU provider.

Control flow, recurrences, outputs whose shape depends on the data, scalars, strings and narrow types: on the device or
by the CPU share, the answer is the same, whether it travels as JSON (flat or nested), binary, raw or typed gRPC.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

from models.make_models import MODELS, make
from serving import Server, serve

Tensors = dict[str, np.ndarray]

_random = np.random.default_rng(7)


def _floats(*shape: int) -> np.ndarray:
    return _random.standard_normal(shape, dtype=np.float32)


def _integers(kind: type) -> np.ndarray:
    limits = np.iinfo(kind)
    return np.array([[limits.min, 0, limits.max], [1, 2, 3]], dtype=kind)


TEXT = np.array([[b"", "Füchse".encode()], [b"a b\n", b'"quoted"']], dtype=np.object_)

CASES: dict[str, Tensors] = {
    "identity_bool": {"x": np.array([[True, False]])},
    "identity_bytes": {"x": TEXT},
    "identity_fp16": {"x": _floats(2, 3).astype(np.float16)},
    "identity_fp32": {"x": _floats(2, 3)},
    "identity_fp64": {"x": _random.standard_normal((2, 3))},
    **{
        f"identity_{name}": {"x": _integers(kind)}
        for name, kind in {
            "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
            "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
        }.items()
    },
    "add_fp16": {"a": _floats(2, 3).astype(np.float16), "b": _floats(2, 3).astype(np.float16)},
    "add_fp32": {"a": _floats(2, 3), "b": _floats(2, 3)},
    "add_int64": {"a": _integers(np.int64), "b": np.ones((2, 3), np.int64)},
    "add_uint8": {"a": _integers(np.uint8), "b": np.full((2, 3), 3, np.uint8)},
    "and_bool": {"a": np.array([[True, True, False]]), "b": np.array([[True, False, False]])},
    "not_bool": {"a": np.array([[True, False, True]])},
    "branch": {"x": _floats(3, 4)},
    "classify": {"scores": _floats(5, 3)},
    "fixed_shape": {"x": _floats(3, 4)},
    "gather": {"rows": np.array([[0, 9, -1], [-10, 5, 5]])},
    "gru": {"x": _floats(2, 6, 8)},
    "increment": {"x": _floats(1, 1)},
    "layer_norm_decomposed": {"x": _floats(2, 5, 64)},
    "loop": {"times": np.array(4), "x": _floats(2, 4)},
    "lstm": {"x": _floats(2, 6, 8)},
    "nonzero": {"x": _floats(3, 2)},
    "perceptron": {"x": _floats(4, 32)},
    "scalars": {"a": np.array(2.5, np.float32), "b": np.array(-4, np.float32)},
    "scatter": {"places": np.array([[0, -1, 3]]), "updates": _floats(1, 3)},
    "simple": {"INPUT0": np.arange(16, dtype=np.int32)[None], "INPUT1": np.ones((1, 16), np.int32)},
    "uppercase": {"text": np.array([b"abc", b"", b"x Y"], dtype=np.object_)},
}  # fmt: skip

# Elsewhere: bf16 has no numpy type, the networks have tests of their own.
ELSEWHERE = {"identity_bf16", "resnet50", "mobilenet_v2"}

TYPED_FIELD = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    make(folder, list(CASES))
    with serve(folder, tmp_path_factory.mktemp("log") / "engine.log") as server:
        yield server


def reference(name: str, tensors: Tensors) -> Tensors:
    session = onnxruntime.InferenceSession(MODELS[name]().SerializeToString(), providers=["CPUExecutionProvider"])
    texts = {key: _decoded(value) for key, value in tensors.items()}
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, texts), strict=True))


def _decoded(value: np.ndarray) -> np.ndarray:
    """Bytes → text, which is what ONNX Runtime's Python takes and gives."""
    return np.vectorize(bytes.decode, otypes=[object])(value) if value.dtype == object else value


def as_json(server: Server, name: str, tensors: Tensors, flat: bool) -> Tensors:
    inputs = []
    for key, value in tensors.items():
        text = _decoded(value)
        data = text.reshape(-1).tolist() if flat or not value.shape else text.tolist()
        inputs.append({"name": key, "shape": value.shape, "datatype": np_to_triton_dtype(value.dtype), "data": data})
    body = json.dumps({"inputs": inputs}).encode()
    with urllib.request.urlopen(f"{server.url}/v2/models/{name}/infer", body, timeout=120) as response:
        outputs = json.load(response)["outputs"]
    kinds = {"BYTES": object, "BOOL": bool, "FP32": np.float32, "FP64": np.float64}
    return {
        output["name"]: np.array(
            output["data"], dtype=kinds.get(output["datatype"]) or output["datatype"].lower()
        ).reshape(output["shape"])
        for output in outputs
    }


def as_json_flat(server: Server, name: str, tensors: Tensors) -> Tensors:
    return as_json(server, name, tensors, flat=True)


def as_json_nested(server: Server, name: str, tensors: Tensors) -> Tensors:
    return as_json(server, name, tensors, flat=False)


def _with_client(module: object, address: str, name: str, tensors: Tensors) -> Tensors:
    inputs = []
    for key, value in tensors.items():
        inputs.append(module.InferInput(key, value.shape, np_to_triton_dtype(value.dtype)))
        inputs[-1].set_data_from_numpy(value)
    with module.InferenceServerClient(address) as client:
        answer = client.infer(name, inputs)
        response = answer.get_response()
        outputs = response["outputs"] if isinstance(response, dict) else response.outputs
        names = [output["name"] if isinstance(output, dict) else output.name for output in outputs]
        return {key: _decoded(answer.as_numpy(key)) for key in names}


def as_binary(server: Server, name: str, tensors: Tensors) -> Tensors:
    return _with_client(tritonclient.http, server.http, name, tensors)


def as_raw(server: Server, name: str, tensors: Tensors) -> Tensors:
    return _with_client(tritonclient.grpc, server.grpc, name, tensors)


def as_typed(server: Server, name: str, tensors: Tensors) -> Tensors:
    request = service_pb2.ModelInferRequest(model_name=name)
    for key, value in tensors.items():
        kind = np_to_triton_dtype(value.dtype)
        tensor = request.inputs.add(name=key, datatype=kind, shape=value.shape)
        getattr(tensor.contents, TYPED_FIELD[kind]).extend(value.reshape(-1).tolist())
    with grpc.insecure_channel(server.grpc) as channel:
        response = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )(request, timeout=120)
    answer = tritonclient.grpc.InferResult(response)
    return {output.name: _decoded(answer.as_numpy(output.name)) for output in response.outputs}


ENCODINGS = [as_json_flat, as_json_nested, as_binary, as_raw, as_typed]
HALF_NEEDS_BINARY = {(name, way) for name in ("identity_fp16", "add_fp16") for way in ENCODINGS[:2] + ENCODINGS[4:]}


def test_every_model_has_a_case() -> None:
    assert set(MODELS) == set(CASES) | ELSEWHERE


@pytest.mark.parametrize("ask", ENCODINGS, ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_that_of_the_cpu(
    server: Server, name: str, ask: Callable[[Server, str, Tensors], Tensors]
) -> None:
    if (name, ask) in HALF_NEEDS_BINARY:
        pytest.skip("half floats travel only in binary; test_half_floats_as_numbers_are_refused")
    tensors = CASES[name]
    wanted, got = reference(name, tensors), ask(server, name, tensors)
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        assert got[key].shape == value.shape, key
        if value.dtype.kind == "f":
            tolerance = 1e-3 if value.dtype == np.float16 else 1e-5
            assert np.allclose(got[key], value, rtol=tolerance, atol=tolerance), key
        else:
            assert got[key].tolist() == value.tolist(), key


def test_half_floats_as_numbers_are_refused(server: Server) -> None:
    half = {"shape": [1, 1], "datatype": "FP16", "data": [1.0], "name": "x"}
    body = json.dumps({"inputs": [half]}).encode()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.url}/v2/models/identity_fp16/infer", body, timeout=60)
    assert refused.value.code == 400
    assert "binary" in json.load(refused.value)["error"]


def test_what_stays_on_the_cpu_is_shown(server: Server) -> None:
    """A recurrence and text run on the CPU: the metrics have to say so."""
    lines = "\n".join(server.metric_lines())
    for name in ("lstm", "uppercase"):
        shares = [line for line in lines.splitlines() if f'model="{name}"' in line and "cpu" in line]
        assert any(not line.endswith(" 0") for line in shares), name


def test_a_row_outside_the_table_is_refused_and_the_next_request_answered(server: Server) -> None:
    inside, outside = {"rows": np.array([[0, 9]])}, {"rows": np.array([[0, 10]])}
    with pytest.raises(tritonclient.http.InferenceServerException):
        as_binary(server, "gather", outside)
    assert np.array_equal(as_binary(server, "gather", inside)["y"], reference("gather", inside)["y"])
    wrong = {"places": np.array([[8]]), "updates": np.ones((1, 1), np.float32)}
    with pytest.raises(tritonclient.http.InferenceServerException):
        as_binary(server, "scatter", wrong)


def test_broken_models_keep_nobody_from_serving(tmp_path: Path) -> None:
    make(tmp_path / "models", ["broken", "increment"])
    with serve(tmp_path / "models", tmp_path / "log") as server:
        assert as_binary(server, "increment", {"x": np.array([[1]], np.float32)})["y"].tolist() == [[2]]
        with urllib.request.urlopen(f"{server.url}/v2/repository/index", b"", timeout=60) as response:
            index = {entry["name"]: entry for entry in json.load(response)}
    for name, entry in index.items():
        if name == "increment":
            assert entry["state"] == "READY"
        else:
            assert (entry["state"], bool(entry["reason"])) == ("UNAVAILABLE", True), name
    assert len(index) == 8
