"""tritonclient 2.73 over gRPC: what only gRPC has."""

import asyncio
import queue
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.grpc import InferInput, model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from serving import Server


@pytest.fixture
def client(server: Server) -> Iterator[tritonclient.grpc.InferenceServerClient]:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield client


def x(value: float) -> list[InferInput]:
    tensor = InferInput("x", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[value]], np.float32))
    return [tensor]


def test_a_stream_answers_each_request_and_survives_a_wrong_one(
    client: tritonclient.grpc.InferenceServerClient,
) -> None:
    arrived: queue.Queue = queue.Queue()
    client.start_stream(lambda result, error: arrived.put((result, error)))
    for value in (1, 2):
        client.async_stream_infer("increment", x(value), request_id=str(value))
    client.async_stream_infer("nobody", x(3), request_id="3")
    client.async_stream_infer("increment", x(4), request_id="4")
    answers = [arrived.get(timeout=60) for _ in range(4)]
    client.stop_stream()

    errors = [error for _, error in answers if error is not None]
    assert len(errors) == 1
    assert "nobody" in str(errors[0])
    values = {result.get_response().id: result.as_numpy("y").item() for result, error in answers if error is None}
    assert values == {"1": 2, "2": 3, "4": 5}


def test_messages_may_be_compressed(client: tritonclient.grpc.InferenceServerClient) -> None:
    assert client.infer("increment", x(1), compression_algorithm="gzip").as_numpy("y").item() == 2


def test_typed_contents_are_answered_raw(server: Server) -> None:
    request = service_pb2.ModelInferRequest(model_name="increment")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[2, 1])
    tensor.contents.fp32_contents.extend([1.0, 2.0])
    with grpc.insecure_channel(server.grpc) as channel:
        answer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )(request, timeout=30)
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [2.0, 3.0]
    assert not answer.outputs[0].HasField("contents")


def test_a_wrong_request_has_a_status_code(client: tritonclient.grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as refused:
        client.infer("nobody", x(1))
    assert refused.value.status() == "StatusCode.NOT_FOUND"
    tensor = InferInput("x", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[1]], np.int32))
    with pytest.raises(InferenceServerException) as refused:
        client.infer("increment", [tensor])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_the_health_service_answers(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=None, response_deserializer=None)
        assert check(b"", timeout=30) == b"\x08\x01"  # HealthCheckResponse{status: SERVING}


def test_the_model_configuration_is_typed(client: tritonclient.grpc.InferenceServerClient) -> None:
    config = client.get_model_config("simple").config
    assert config.input[0].data_type == model_config_pb2.TYPE_INT32
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"


def test_the_asyncio_client_is_answered(server: Server) -> None:
    async def ask() -> list[float]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
            assert await client.is_server_ready()
            answers = await asyncio.gather(*(client.infer("increment", x(i)) for i in range(16)))
            return [answer.as_numpy("y").item() for answer in answers]

    assert asyncio.run(ask()) == list(range(1, 17))
