"""tritonclient 2.73 over HTTP: what only HTTP has."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput, InferRequestedOutput

from serving import Server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[tritonclient.http.InferenceServerClient]:
    with tritonclient.http.InferenceServerClient(server.http) as client:
        yield client


def x(value: np.ndarray, datatype: str = "FP32", *, binary: bool = True) -> list[InferInput]:
    tensor = InferInput("x", value.shape, datatype)
    tensor.set_data_from_numpy(value, binary_data=binary)
    return [tensor]


@pytest.mark.parametrize("answer_binary", [True, False])
@pytest.mark.parametrize("ask_binary", [True, False])
def test_json_and_binary_may_be_mixed(
    client: tritonclient.http.InferenceServerClient, ask_binary: bool, answer_binary: bool
) -> None:
    sent = np.array([[0.1, -2.0, 3e30]], np.float32)
    output = InferRequestedOutput("y", binary_data=answer_binary)
    answer = client.infer("identity_fp32", x(sent, binary=ask_binary), outputs=[output])
    assert np.array_equal(answer.as_numpy("y"), sent)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BOOL", np.array([[True, False]])),
        ("UINT64", np.array([[2**64 - 1, 0]], np.uint64)),
        ("INT64", np.array([[-(2**63), 2**63 - 1]], np.int64)),
        ("FP64", np.array([[1 / 3, -5e-324]])),
        ("BYTES", np.array([["Füchse", ""]], dtype=np.object_)),
    ],
)
def test_json_loses_nothing(client: tritonclient.http.InferenceServerClient, datatype: str, value: np.ndarray) -> None:
    output = InferRequestedOutput("y", binary_data=False)
    answer = client.infer(f"identity_{datatype.lower()}", x(value, datatype, binary=False), outputs=[output])
    got = answer.as_numpy("y")
    assert [item.decode() if isinstance(item, bytes) else item for item in got[0].tolist()] == value[0].tolist()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_are_compressed_both_ways(client: tritonclient.http.InferenceServerClient, algorithm: str) -> None:
    sent = np.tile(np.arange(1000, dtype=np.float32), (4, 1))
    answer = client.infer(
        "identity_fp32",
        x(sent),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert np.array_equal(answer.as_numpy("y"), sent)


def test_statistics_of_all_models_come_in_one_answer(client: tritonclient.http.InferenceServerClient) -> None:
    names = {model["name"] for model in client.get_inference_statistics()["model_stats"]}
    assert {"simple", "perceptron", "identity_fp32"} <= names


def test_the_asyncio_client_is_answered(server: Server) -> None:
    async def ask() -> list[float]:
        async with tritonclient.http.aio.InferenceServerClient(server.http) as client:
            assert await client.is_server_ready()
            values = [np.array([[i]], np.float32) for i in range(16)]
            answers = await asyncio.gather(*(client.infer("increment", x(value)) for value in values))
            return [answer.as_numpy("y").item() for answer in answers]

    assert asyncio.run(ask()) == list(range(1, 17))
