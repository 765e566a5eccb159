"""tritonclient 2.73: what its HTTP and its gRPC client have in common."""

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf.json_format import MessageToDict
from tritonclient.utils import InferenceServerException

from models.small import DATATYPES
from serving import Server

NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip


@dataclass
class Triton:
    """One of the two client modules, connected."""

    protocol: ModuleType
    client: tritonclient.http.InferenceServerClient | tritonclient.grpc.InferenceServerClient

    def inputs(self, **tensors: tuple[str, np.ndarray]) -> list[object]:
        inputs = []
        for name, (datatype, value) in tensors.items():
            inputs.append(self.protocol.InferInput(name, value.shape, datatype))
            inputs[-1].set_data_from_numpy(value)
        return inputs

    def json(self, message: object) -> dict:
        """What get_… answered, as a dict; the HTTP client answers dicts anyway."""
        if isinstance(message, dict | list):
            return message
        return MessageToDict(message, preserving_proto_field_name=True)


@pytest.fixture(scope="session", params=[tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def triton(request: pytest.FixtureRequest, server: Server) -> Iterator[Triton]:
    address = server.http if request.param is tritonclient.http else server.grpc
    with request.param.InferenceServerClient(address) as client:
        yield Triton(request.param, client)


def rows(datatype: str, count: int = 3) -> np.ndarray:
    """[count, 4] values that a wrong width or sign would change."""
    if datatype == "BYTES":
        texts = [b"", b"plain", "Füchse".encode(), b"\x00\xff zero and high"]
        return np.array([texts] * count, dtype=np.object_)
    kind = NUMPY[datatype]
    if kind is np.bool_:
        return np.array([[True, False, False, True]] * count)
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        return np.array([[limits.min, limits.max, 0, 1]] * count, dtype=kind)
    return np.array([[-1.5, np.finfo(kind).max, np.nan, np.inf]] * count, dtype=kind)


def test_the_server_is_live_and_ready(triton: Triton) -> None:
    assert triton.client.is_server_live()
    assert triton.client.is_server_ready()
    assert triton.client.is_model_ready("simple")
    assert triton.client.is_model_ready("simple", "1")
    assert not triton.client.is_model_ready("simple", "7")
    assert not triton.client.is_model_ready("nobody")


def test_the_server_says_what_it_can_do(triton: Triton) -> None:
    metadata = triton.json(triton.client.get_server_metadata())
    assert metadata["name"]
    assert metadata["version"]
    assert {"model_repository", "statistics", "model_configuration", "binary_tensor_data"} <= set(
        metadata["extensions"]
    )


def test_sums_and_differences_come_back(triton: Triton) -> None:
    a, b = np.arange(32, dtype=np.int32).reshape(2, 16), np.full((2, 16), 7, np.int32)
    answer = triton.client.infer("simple", triton.inputs(INPUT0=("INT32", a), INPUT1=("INT32", b)))
    assert np.array_equal(answer.as_numpy("OUTPUT0"), a + b)
    assert np.array_equal(answer.as_numpy("OUTPUT1"), a - b)


def test_only_the_outputs_asked_for_come_back_and_the_id_is_kept(triton: Triton) -> None:
    a = np.ones((1, 16), np.int32)
    answer = triton.client.infer(
        "simple",
        triton.inputs(INPUT0=("INT32", a), INPUT1=("INT32", a)),
        outputs=[triton.protocol.InferRequestedOutput("OUTPUT1")],
        request_id="number 5",
        model_version="1",
    )
    response = triton.json(answer.get_response())
    assert [output["name"] for output in response["outputs"]] == ["OUTPUT1"]
    assert response["id"] == "number 5"
    assert (response["model_name"], response["model_version"]) == ("simple", "1")


@pytest.mark.parametrize("datatype", NUMPY)
def test_every_datatype_survives_the_way_there_and_back(triton: Triton, datatype: str) -> None:
    sent = rows(datatype)
    answer = triton.client.infer(f"identity_{datatype.lower()}", triton.inputs(x=(datatype, sent)))
    got = answer.as_numpy("y")
    assert got.dtype == sent.dtype
    if datatype == "BYTES":
        assert got.tolist() == sent.tolist()
    else:
        assert got.tobytes() == sent.tobytes()


def test_bfloat16_survives_too(triton: Triton) -> None:
    sent = np.array([[1.0, -2.5, 0.0]], ml_dtypes.bfloat16)
    answer = triton.client.infer("identity_bf16", triton.inputs(x=("BF16", sent)))
    assert answer.as_numpy("y").tolist() == sent.tolist()


def test_every_datatype_has_a_model() -> None:
    assert set(NUMPY) | {"BF16"} == set(DATATYPES)


def test_strings_go_in_and_come_out(triton: Triton) -> None:
    text = np.array([b"abc", b"Xy z", b""], dtype=np.object_)
    answer = triton.client.infer("uppercase", triton.inputs(text=("BYTES", text)))
    assert answer.as_numpy("upper").tolist() == [b"ABC", b"XY Z", b""]
    scores = np.eye(3, dtype=np.float32)
    answer = triton.client.infer("classify", triton.inputs(scores=("FP32", scores)))
    assert answer.as_numpy("label").tolist() == ["Füchse".encode(), b"", b"cat"]


def test_scalars_have_no_dimensions(triton: Triton) -> None:
    inputs = triton.inputs(a=("FP32", np.array(3, np.float32)), b=("FP32", np.array(0.5, np.float32)))
    product = triton.client.infer("scalars", inputs).as_numpy("product")
    assert (product.shape, float(product)) == ((), 1.5)


def test_loops_and_recurrences_answer(triton: Triton) -> None:
    x = np.ones((2, 4), np.float32)
    answer = triton.client.infer("loop", triton.inputs(times=("INT64", np.array(3)), x=("FP32", x)))
    assert answer.as_numpy("peaks").tolist() == [2.25, 3.375, 5.0]
    x = np.linspace(-1, 1, 2 * 5 * 8, dtype=np.float32).reshape(2, 5, 8)
    both = triton.client.infer("lstm", triton.inputs(x=("FP32", x))).as_numpy("y")
    alone = [triton.client.infer("lstm", triton.inputs(x=("FP32", x[i : i + 1]))).as_numpy("y")[0] for i in range(2)]
    assert np.allclose(both, alone, atol=1e-6)


def test_metadata_and_configuration_describe_the_model(triton: Triton) -> None:
    metadata = triton.json(triton.client.get_model_metadata("simple"))
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("simple", ["1"], "onnxruntime_onnx")
    shapes = {tensor["name"]: [int(extent) for extent in tensor["shape"]] for tensor in metadata["inputs"]}
    assert shapes == {"INPUT0": [-1, 16], "INPUT1": [-1, 16]}

    config = triton.json(triton.client.get_model_config("simple"))
    config = config.get("config", config)
    assert (config["name"], config["max_batch_size"]) == ("simple", 8)
    dims = {tensor["name"]: [int(extent) for extent in tensor["dims"]] for tensor in config["input"]}
    assert dims == {"INPUT0": [16], "INPUT1": [16]}  # without the batch
    assert {tensor["data_type"] for tensor in config["output"]} == {"TYPE_INT32"}
    assert "dynamic_batching" in config
    assert not {"sequence_batching", "ensemble_scheduling", "model_transaction_policy"} & config.keys()


def test_a_model_of_fixed_shape_is_not_batched(triton: Triton) -> None:
    config = triton.json(triton.client.get_model_config("fixed_shape"))
    config = config.get("config", config)
    assert int(config.get("max_batch_size", 0)) == 0
    assert [int(extent) for extent in config["input"][0]["dims"]] == [3, 4]


def test_statistics_count_what_was_inferred(triton: Triton) -> None:
    def counts() -> dict[str, int]:
        (model,) = triton.json(triton.client.get_inference_statistics("perceptron"))["model_stats"]
        success = model["inference_stats"].get("success", {})
        return {
            "inferences": int(model.get("inference_count", 0)),
            "executions": int(model.get("execution_count", 0)),
            "requests": int(success.get("count", 0)),
            "nanoseconds": int(success.get("ns", 0)),
        }

    before = counts()
    for _ in range(3):
        triton.client.infer("perceptron", triton.inputs(x=("FP32", np.zeros((2, 32), np.float32))))
    after = counts()
    assert after["inferences"] - before["inferences"] == 6  # rows
    assert after["requests"] - before["requests"] == 3
    assert 1 <= after["executions"] - before["executions"] <= 3
    assert after["nanoseconds"] > before["nanoseconds"]


def test_a_model_is_unloaded_and_loaded_again(triton: Triton) -> None:
    def states() -> dict[str, str]:
        index = triton.json(triton.client.get_model_repository_index())
        entries = index if isinstance(index, list) else index["models"]
        return {entry["name"]: entry.get("state", "") for entry in entries}

    inputs = triton.inputs(x=("FP32", np.array([[41]], np.float32)))
    assert states()["increment"] == "READY"
    triton.client.unload_model("increment")
    assert not triton.client.is_model_ready("increment")
    assert states()["increment"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="increment"):
        triton.client.infer("increment", inputs)
    assert triton.client.is_server_ready()

    triton.client.load_model("increment")
    assert triton.client.is_model_ready("increment")
    assert triton.client.infer("increment", inputs).as_numpy("y").tolist() == [[42]]


def test_parameters_of_every_kind_are_accepted(triton: Triton) -> None:
    answer = triton.client.infer(
        "increment",
        triton.inputs(x=("FP32", np.array([[1]], np.float32))),
        parameters={"text": "a", "whole": 3, "yes": True},
        priority=1,
        timeout=30_000_000,
    )
    assert answer.as_numpy("y").tolist() == [[2]]


@pytest.mark.parametrize(
    ("model", "inputs", "told"),
    [
        ("nobody", {"x": ("FP32", np.zeros((1, 32), np.float32))}, "nobody"),
        ("perceptron", {"y": ("FP32", np.zeros((1, 32), np.float32))}, "y"),
        ("perceptron", {"x": ("FP64", np.zeros((1, 32), np.float64))}, "FP64"),
        ("perceptron", {"x": ("FP32", np.zeros((1, 31), np.float32))}, "31"),
        ("perceptron", {"x": ("FP32", np.zeros((17, 32), np.float32))}, "16"),
        ("simple", {"INPUT0": ("INT32", np.zeros((1, 16), np.int32))}, "INPUT1"),
    ],
    ids=["unknown model", "unknown input", "wrong type", "wrong shape", "batch too large", "input missing"],
)
def test_a_mistake_is_named(triton: Triton, model: str, inputs: dict, told: str) -> None:
    with pytest.raises(InferenceServerException, match=told):
        triton.client.infer(model, triton.inputs(**inputs))


def test_requests_in_flight_at_once_get_their_own_answers(server: Server, triton: Triton) -> None:
    inputs = [triton.inputs(x=("FP32", np.array([[i]], np.float32))) for i in range(64)]
    if triton.protocol is tritonclient.http:
        with tritonclient.http.InferenceServerClient(server.http, concurrency=8) as client:
            waiting = [client.async_infer("increment", each) for each in inputs]
            answers = [each.get_result() for each in waiting]
    else:
        done: queue.Queue = queue.Queue()
        for i, each in enumerate(inputs):

            def finished(result: object, error: object, i: int = i) -> None:
                done.put((i, result, error))

            triton.client.async_infer("increment", each, callback=finished)
        by_number = {i: (result, error) for i, result, error in (done.get(timeout=60) for _ in inputs)}
        assert [error for _, error in by_number.values() if error] == []
        answers = [by_number[i][0] for i in range(len(inputs))]
    assert [answer.as_numpy("y").item() for answer in answers] == list(range(1, 65))
