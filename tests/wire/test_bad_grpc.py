"""Bad requests over gRPC: each is refused with the right code and a reason, and the server lives on."""

import socket
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from serving import Server

pytestmark = pytest.mark.usefixtures("still_serves")

Request = service_pb2.ModelInferRequest
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"


def request(
    *raw: bytes, model: str = "identity_fp32", name: str = "x", datatype: str = "FP32", shape: tuple = (1, 2)
) -> Request:
    message = Request(model_name=model, raw_input_contents=raw)
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message


def changed(message: Request, change: Callable[[Request], object]) -> Request:
    change(message)
    return message


EIGHT = bytes(8)

CASES: dict[str, tuple[grpc.StatusCode, str, Request]] = {
    "no model": (INVALID, "model_name", request(EIGHT, model="")),
    "unknown model": (NOT_FOUND, "nobody", request(EIGHT, model="nobody")),
    "a model name of a megabyte": (NOT_FOUND, "mmm", request(EIGHT, model="m" * (1 << 20))),
    "unknown version": (NOT_FOUND, "7", changed(request(EIGHT), lambda r: setattr(r, "model_version", "7"))),
    "unknown input": (INVALID, "unknown input `z`", request(EIGHT, name="z")),
    "missing input": (INVALID, "missing", Request(model_name="identity_fp32")),
    "input without a name": (INVALID, "no name", request(EIGHT, name="")),
    "duplicate input": (
        INVALID, "twice",
        changed(request(EIGHT, EIGHT), lambda r: r.inputs.add(name="x", datatype="FP32", shape=[1, 2])),
    ),
    "unknown output": (INVALID, "unknown output `z`", changed(request(EIGHT), lambda r: r.outputs.add(name="z"))),
    "unknown datatype": (INVALID, "unknown datatype", request(EIGHT, datatype="fp32")),
    "another datatype than the model's": (INVALID, "INT32", request(EIGHT, datatype="INT32")),
    "another rank than the model's": (INVALID, "shape", request(EIGHT, shape=(2,))),
    "batch of 0": (INVALID, "0 rows", request(b"", shape=(0, 2))),
    "negative extent": (INVALID, "negative", request(EIGHT, shape=(-1, 2))),
    "overflowing shape": (INVALID, "overflows", request(EIGHT, shape=(1 << 62, 1 << 62))),
    "huge claimed shape": (INVALID, "needs", request(EIGHT, shape=(1 << 30, 1 << 28))),
    "fewer bytes than the shape needs": (INVALID, "needs 8", request(bytes(7))),
    "more bytes than the shape needs": (INVALID, "needs 8", request(bytes(9))),
    "fewer raw entries than inputs": (
        INVALID, "raw_input_contents", changed(request(EIGHT), lambda r: r.inputs.add(name="z", datatype="FP32")),
    ),
    "more raw entries than inputs": (INVALID, "raw_input_contents", request(EIGHT, EIGHT)),
    "raw and typed contents": (
        INVALID, "one or the other",
        changed(request(EIGHT), lambda r: r.inputs[0].contents.fp32_contents.extend([1, 2])),
    ),
    "neither raw nor typed contents": (INVALID, "0 elements", request()),
    "contents of another type": (
        INVALID, "fp32_contents", changed(request(), lambda r: r.inputs[0].contents.int_contents.extend([1, 2])),
    ),
    "too few typed elements": (
        INVALID, "1 elements", changed(request(), lambda r: r.inputs[0].contents.fp32_contents.extend([1])),
    ),
    "typed half floats": (
        INVALID, "raw_input_contents", changed(
            request(model="identity_fp16", datatype="FP16"), lambda r: r.inputs[0].contents.fp32_contents.extend([1, 2])
        ),
    ),
    "string that claims more than there is": (
        INVALID, "claims", request(b"\xff\xff\xff\xff1", model="identity_bytes", datatype="BYTES", shape=(1, 1)),
    ),
    "reserved parameter": (
        INVALID, "triton_", changed(request(EIGHT), lambda r: setattr(r.parameters["triton_x"], "bool_param", True)),
    ),
    "parameter without a value": (
        INVALID, "no value", changed(request(EIGHT), lambda r: r.parameters["mine"].SetInParent()),
    ),
    "sequence": (
        UNIMPLEMENTED, "sequence",
        changed(request(EIGHT), lambda r: setattr(r.parameters["sequence_id"], "int64_param", 5)),
    ),
    "shared memory": (
        UNIMPLEMENTED, "shared memory", changed(
            request(), lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "r")
        ),
    ),
    "an index outside the table": (
        INVALID, "", request(np.int64(10).tobytes(), model="gather", name="rows", datatype="INT64", shape=(1, 1)),
    ),
}  # fmt: skip


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value


@pytest.mark.parametrize("name", CASES)
def test_a_bad_request_is_refused_with_its_reason(stub: GRPCInferenceServiceStub, name: str) -> None:
    code, reason, message = CASES[name]
    error = refused(lambda: stub.ModelInfer(message, timeout=60))
    assert (error.code(), reason in error.details()) == (code, True), error.details()
    assert len(error.details()) < 4096


@pytest.mark.parametrize("name", CASES)
def test_a_stream_tells_of_a_bad_request_and_goes_on(stub: GRPCInferenceServiceStub, name: str) -> None:
    _, reason, bad = CASES[name]
    good = request(EIGHT)
    bad, good = (changed(each, lambda r, n=n: setattr(r, "id", n)) for n, each in (("bad", _copy(bad)), ("good", good)))
    first, second, third = stub.ModelStreamInfer(iter([good, bad, good]), timeout=60)
    assert (first.error_message, first.infer_response.id) == ("", "good")
    assert reason in second.error_message
    assert second.error_message
    assert second.infer_response.id == "bad"
    assert (third.error_message, third.infer_response.raw_output_contents[0]) == ("", EIGHT)


def _copy(message: Request) -> Request:
    return Request.FromString(message.SerializeToString())


def test_a_stream_closes_with_a_status_where_the_client_asks_for_that(stub: GRPCInferenceServiceStub) -> None:
    code, reason, bad = CASES["unknown input"]
    answers = stub.ModelStreamInfer(iter([bad]), metadata=[("triton_grpc_error", "true")], timeout=60)
    error = refused(lambda: list(answers))
    assert (error.code(), reason in error.details()) == (code, True)


RPCS: dict[str, tuple[grpc.StatusCode, Callable[[GRPCInferenceServiceStub], object]]] = {
    "metadata of an unknown model": (
        NOT_FOUND, lambda stub: stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="nobody")),
    ),
    "configuration of an unknown model": (
        NOT_FOUND, lambda stub: stub.ModelConfig(service_pb2.ModelConfigRequest(name="nobody")),
    ),
    "statistics of an unknown model": (
        NOT_FOUND, lambda stub: stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name="nobody")),
    ),
    "loading an unknown model": (
        NOT_FOUND, lambda stub: stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="nobody")),
    ),
    "a named repository": (
        UNIMPLEMENTED, lambda stub: stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(repository_name="r")),
    ),
    "shared memory": (
        UNIMPLEMENTED,
        lambda stub: stub.SystemSharedMemoryRegister(service_pb2.SystemSharedMemoryRegisterRequest(name="r")),
    ),
    "trace settings": (UNIMPLEMENTED, lambda stub: stub.TraceSetting(service_pb2.TraceSettingRequest())),
    "log settings": (UNIMPLEMENTED, lambda stub: stub.LogSettings(service_pb2.LogSettingsRequest())),
}  # fmt: skip


@pytest.mark.parametrize("name", RPCS)
def test_every_rpc_says_what_it_cannot_do(stub: GRPCInferenceServiceStub, name: str) -> None:
    code, call = RPCS[name]
    error = refused(lambda: call(stub))
    assert error.code() == code
    assert error.details()


def test_a_model_that_is_not_there_is_not_ready(stub: GRPCInferenceServiceStub) -> None:
    for name, version, ready in (("nobody", "", False), ("simple", "7", False), ("simple", "1", True)):
        assert stub.ModelReady(service_pb2.ModelReadyRequest(name=name, version=version)).ready is ready


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def send(channel: grpc.Channel, body: bytes, method: str = MODEL_INFER, **options: object) -> grpc.RpcError:
    """Bytes that no stub would send."""
    call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
    return refused(lambda: call(body, timeout=60, **options))


def test_what_is_not_protobuf_is_the_clients_fault(channel: grpc.Channel) -> None:
    assert send(channel, b"\xff" * 40).code() == INVALID


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    assert send(channel, b"", "/inference.GRPCInferenceService/Nothing").code() == UNIMPLEMENTED
    assert send(channel, b"", "/nobody.Service/Nothing").code() == UNIMPLEMENTED


def test_oversized_messages_and_bombs_exhaust_the_limit_and_nothing_else(channel: grpc.Channel) -> None:
    huge = request(bytes(65 << 20)).SerializeToString()
    assert send(channel, huge).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    bomb = request(bytes(300 << 20)).SerializeToString()
    error = send(channel, bomb, compression=grpc.Compression.Gzip)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def slow(times: int = 2_000_000) -> Request:
    message = Request(model_name="loop", raw_input_contents=[np.int64(times).tobytes(), bytes(16)])
    message.inputs.add(name="times", datatype="INT64", shape=[])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    return message


def test_the_deadline_of_the_parameter_is_kept(stub: GRPCInferenceServiceStub) -> None:
    message = slow()
    message.parameters["timeout"].int64_param = 20_000
    error = refused(lambda: stub.ModelInfer(message, timeout=60))
    assert (error.code(), "deadline" in error.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)


def test_the_deadline_of_the_call_is_kept(stub: GRPCInferenceServiceStub) -> None:
    error = refused(lambda: stub.ModelInfer(slow(), timeout=0.05))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # The call's time is over for the server as well: the queue of two is free again.
    answered_soon(stub)


def test_a_cancelled_call_leaves_the_queue(stub: GRPCInferenceServiceStub) -> None:
    calls = [stub.ModelInfer.future(slow()) for _ in range(3)]
    for call in calls:
        call.cancel()
    answered_soon(stub)


def answered_soon(stub: GRPCInferenceServiceStub) -> None:
    """Refused for a full queue at most until the server has noticed that nobody waits any more."""
    deadline = time.monotonic() + 60
    while (code := stub.ModelInfer.future(slow(2), timeout=60).code()) != grpc.StatusCode.OK:
        assert code == grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() < deadline


def test_a_full_queue_is_unavailable(stub: GRPCInferenceServiceStub) -> None:
    calls = [stub.ModelInfer.future(slow(), timeout=3) for _ in range(12)]
    codes = [call.code() for call in calls]
    assert grpc.StatusCode.UNAVAILABLE in codes
    assert set(codes) <= {
        grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED,
    }  # fmt: skip


def test_http_1_and_garbage_on_the_grpc_port_close_the_connection(server: Server) -> None:
    host, port = server.grpc.split(":")
    for sent in (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00" * 64,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    ):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(sent)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
