"""Bad requests over REST: each is refused with the right status and a reason, and the server lives on."""

import gzip
import json
import socket
import threading
import zlib
from dataclasses import dataclass, field

import pytest

from serving import Server

from .conftest import Answer, call, infer_json

pytestmark = pytest.mark.usefixtures("still_serves")

MIB = 1 << 20
INFER = "/v2/models/identity_fp32/infer"


@dataclass
class Case:
    status: int
    reason: str
    body: bytes | None = b"{}"
    path: str = INFER
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""


def body(*inputs: dict, **members: object) -> bytes:
    return json.dumps({"inputs": list(inputs), **members}).encode()


def x(shape: list = [1, 2], datatype: str = "FP32", data: object = (1, 2), name: str = "x", **rest: object) -> dict:  # noqa: B006
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **rest}


def mixed(size: object, shape: list, data: bytes, length: object = None, datatype: str = "FP32") -> Case:
    """A binary tensor behind the JSON; `length` is what the header claims, the truth by default."""
    tensor = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = body(tensor)
    length = len(head) if length is None else length
    return Case(400, "", head + data, headers={"Inference-Header-Content-Length": str(length)})


def because(case: Case, reason: str) -> Case:
    case.reason = reason
    return case


DEEP = body(x(data="DEEP")).replace(b'"DEEP"', b"[" * 200_000 + b"]" * 200_000)

CASES: dict[str, Case] = {
    # Paths and methods.
    "unknown path": Case(404, "Not Found", None, "/v2/nothing"),
    "unknown model": Case(404, "nobody", body(x()), "/v2/models/nobody/infer"),
    "unknown model's metadata": Case(404, "nobody", None, "/v2/models/nobody"),
    "unknown model's configuration": Case(404, "nobody", None, "/v2/models/nobody/config"),
    "unknown model's statistics": Case(404, "nobody", None, "/v2/models/nobody/stats"),
    "unknown model's readiness": Case(404, "nobody", None, "/v2/models/nobody/ready"),
    "unknown version": Case(404, "7", body(x()), "/v2/models/identity_fp32/versions/7/infer"),
    "version that is no number": Case(404, "latest", body(x()), "/v2/models/identity_fp32/versions/latest/infer"),
    "model name with a slash": Case(404, "identity_fp32/1", None, "/v2/models/identity_fp32%2F1"),
    "model name that is not UTF-8": Case(400, "UTF-8", None, "/v2/models/%ff"),
    "wrong method": Case(405, "GET", None, INFER),
    "wrong method on metadata": Case(405, "DELETE", None, "/v2/models/identity_fp32", method="DELETE"),
    "named repository": Case(501, "no names", b"", "/v2/repository/other/index"),
    "loading an unknown model": Case(404, "nobody", b"{}", "/v2/repository/models/nobody/load"),
    "loading with an unknown parameter": Case(
        400, "surprise", b'{"parameters": {"surprise": 1}}', "/v2/repository/models/simple/load"
    ),
    # JSON.
    "empty body": Case(400, "JSON", b""),
    "not JSON": Case(400, "JSON", b"hello"),
    "truncated JSON": Case(400, "JSON", body(x())[:-5]),
    "more after the JSON": Case(400, "goes on", body(x()) + b"{}"),
    "not UTF-8": Case(400, "UTF-8", body(x()).replace(b'"x"', b'"\xff"')),
    "deep JSON": Case(400, "nested deeper", DEEP),
    "deep JSON where nobody looks": Case(400, "nested deeper", body(x(), other=json.loads("[" * 150 + "]" * 150))),
    "no inputs": Case(400, "inputs", b"{}"),
    "member given twice": Case(400, "twice", b'{"inputs": [], "inputs": []}'),
    # Tensors.
    "unknown input": Case(400, "unknown input `z`", body(x(name="z"))),
    "missing input": Case(400, "missing", body()),
    "duplicate input": Case(400, "twice", body(x(), x())),
    "unknown output": Case(400, "unknown output `z`", body(x(), outputs=[{"name": "z"}])),
    "duplicate output": Case(400, "twice", body(x(), outputs=[{"name": "y"}, {"name": "y"}])),
    "unknown datatype": Case(400, "unknown datatype", body(x(datatype="FP31"))),
    "another datatype than the model's": Case(400, "INT32", body(x(datatype="INT32"))),
    "another rank than the model's": Case(400, "shape", body(x(shape=[2]))),
    "another extent than the model's": Case(
        400, "shape", body(x(shape=[2, 2], data=[1, 2, 3, 4])), "/v2/models/fixed_shape/infer"
    ),
    "too few elements": Case(400, "needs 2", body(x(data=[1]))),
    "too many elements": Case(400, "needs 2", body(x(data=[1, 2, 3]))),
    "ragged data": Case(400, "nested", body(x(shape=[2, 2], data=[[1, 2], [3]]))),
    "data that is no array": Case(400, "array", body(x(data="12"))),
    "a string among numbers": Case(400, "string", body(x(data=[1, "2"]))),
    "a fraction among integers": Case(
        400, "INT32", body(x(shape=[1, 16], datatype="INT32", data=[1.5] * 16)), "/v2/models/simple/infer"
    ),
    "a number out of range": Case(400, "FP32", body(x(data=[1, 1e39]))),
    "negative extent": Case(400, "negative", body(x(shape=[-1, 2]))),
    "overflowing shape": Case(400, "overflows", body(x(shape=[1 << 62, 1 << 62]))),
    "shape beyond 64 bits": Case(400, "64-bit", body(x(shape=[1 << 70, 1]))),
    "huge claimed shape": Case(400, "needs", body(x(shape=[1 << 30, 1 << 28]))),
    "a shape of a million extents": Case(400, "dimensions", body(x(shape=[1] * 1_000_000))),
    "batch of 0": Case(400, "0 rows", body(x(shape=[0, 2], data=[]))),
    "batch beyond the model's": Case(
        400,
        "rows",
        body(*(x([1000, 16], "INT32", [0] * 16_000, name) for name in ("INPUT0", "INPUT1"))),
        "/v2/models/simple/infer",
    ),
    "half floats as JSON": Case(400, "binary", body(x(datatype="FP16")), "/v2/models/identity_fp16/infer"),
    "half floats asked for as JSON": Case(400, "binary", b"", "/v2/models/identity_fp16/infer"),  # Filled in below.
    "shared memory": Case(
        501, "shared memory", body({**x(), "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 8}})
    ),
    "an index outside the table": Case(400, "", body(x([1, 1], "INT64", [10], "rows")), "/v2/models/gather/infer"),
    # Parameters.
    "reserved parameter": Case(400, "triton_", body(x(), parameters={"triton_enable_empty_final_response": True})),
    "sequence": Case(501, "sequence", body(x(), parameters={"sequence_id": 5})),
    "negative priority": Case(400, "priority", body(x(), parameters={"priority": -1})),
    "timeout that is no integer": Case(400, "timeout", body(x(), parameters={"timeout": "soon"})),
    "nested parameter": Case(400, "string, a number or a bool", body(x(), parameters={"a": {}})),
    "classification of strings": Case(
        400,
        "classification",
        body(x([1, 1], "BYTES", ["a"]), outputs=[{"name": "y", "parameters": {"classification": 1}}]),
        "/v2/models/identity_bytes/infer",
    ),
    "expired deadline": Case(504, "deadline", body(x(), parameters={"timeout": 1})),  # Filled in below.
    # Binary tensors.
    "fewer bytes than the tensor needs": because(mixed(4, [1, 2], bytes(4)), "needs 8"),
    "fewer bytes than claimed": because(mixed(8, [1, 2], bytes(5)), "5 bytes are left"),
    "more bytes than claimed": because(mixed(8, [1, 2], bytes(9)), "additional input data"),
    "huge claimed size": because(mixed((1 << 64) - 1, [1, 2], bytes(8)), "left"),
    "negative size": because(mixed(-8, [1, 2], bytes(8)), "number of bytes"),
    "size and data": Case(400, "both", body({**x(), "parameters": {"binary_data_size": 8}})),
    "neither size nor data": Case(400, "neither", body({"name": "x", "shape": [1, 2], "datatype": "FP32"})),
    "header beyond the body": because(mixed(8, [1, 2], bytes(8), 1 << 40), "only"),
    "negative header": because(mixed(8, [1, 2], bytes(8), -1), "not a number"),
    "header that is no number": because(mixed(8, [1, 2], bytes(8), "many"), "not a number"),
    "header that cuts the JSON": because(mixed(8, [1, 2], bytes(8), 20), "JSON"),
    "header that takes in the tensor": because(mixed(8, [1, 2], bytes(8), len(mixed(8, [1, 2], b"").body) + 4), ""),
    "binary tensor without a header": Case(400, "", mixed(8, [1, 2], bytes(8)).body),
    "string that claims more than there is": because(
        mixed(8, [1, 1], b"\xff\xff\xff\xff1234", datatype="BYTES"), "claims"
    ),
    "string that ends in its length": because(mixed(2, [1, 1], b"\x01\x00", datatype="BYTES"), "ends inside"),
    "too few strings": because(mixed(4, [1, 2], bytes(4), datatype="BYTES"), "1 elements"),
    "raw request for two inputs": Case(
        400, "one input", bytes(8), "/v2/models/simple/infer", {"Inference-Header-Content-Length": "0"}
    ),
    # Sizes and encodings.
    "oversized body": Case(413, "larger", bytes(65 * MIB)),
    "gzip bomb": Case(
        413, "after decompression", gzip.compress(bytes(300 * MIB)), headers={"Content-Encoding": "gzip"}
    ),
    "deflate bomb": Case(
        413, "after decompression", zlib.compress(bytes(300 * MIB)), headers={"Content-Encoding": "deflate"}
    ),
    "truncated gzip": Case(400, "gzip", gzip.compress(body(x()))[:-9], headers={"Content-Encoding": "gzip"}),
    "not gzip": Case(400, "gzip", body(x()), headers={"Content-Encoding": "gzip"}),
    "unknown encoding": Case(415, "br", body(x()), headers={"Content-Encoding": "br"}),
    "encoding in an encoding": Case(415, "gzip", body(x()), headers={"Content-Encoding": "gzip, gzip"}),
}

_half = mixed(4, [1, 2], bytes(4), datatype="FP16")
CASES["half floats asked for as JSON"].body = _half.body
CASES["half floats asked for as JSON"].headers = _half.headers

SLOW = {
    "inputs": [
        {"name": "times", "shape": [], "datatype": "INT64", "data": [2_000_000]},
        {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]},
    ]
}
CASES["expired deadline"].path = "/v2/models/loop/infer"
CASES["expired deadline"].body = json.dumps({**SLOW, "parameters": {"timeout": 20_000}}).encode()


def assert_refused(answer: Answer, status: int, reason: str) -> None:
    assert answer.status == status, answer.body[:300]
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json) == {"error"}
    assert reason in answer.error
    assert len(answer.body) < 4096


@pytest.mark.parametrize("name", CASES)
def test_a_bad_request_is_refused_with_its_reason(server: Server, name: str) -> None:
    case = CASES[name]
    answer = call(server, case.path, case.body, case.headers, case.method)
    assert_refused(answer, case.status, case.reason)


OPENAI: dict[str, tuple[int, str, bytes]] = {
    "no JSON": (400, "JSON", b"hello"),
    "no model": (400, "model", b'{"input": "a"}'),
    "no input": (400, "input", b'{"model": "all-minilm-l6-v2"}'),
    "empty input": (400, "empty", b'{"model": "all-minilm-l6-v2", "input": []}'),
    "mixed input": (400, "input", b'{"model": "all-minilm-l6-v2", "input": ["a", 1]}'),
    "token beyond the vocabulary": (400, "", b'{"model": "all-minilm-l6-v2", "input": [4000000000]}'),
    "negative token": (400, "token", b'{"model": "all-minilm-l6-v2", "input": [-1]}'),
    "too many inputs": (
        400, "2048", json.dumps({"model": "all-minilm-l6-v2", "input": ["a"] * 2049}).encode(),
    ),
    "unknown format": (400, "hex", b'{"model": "all-minilm-l6-v2", "input": "a", "encoding_format": "hex"}'),
    "unknown argument": (400, "surprise", b'{"model": "all-minilm-l6-v2", "input": "a", "surprise": 1}'),
    "more dimensions than there are": (
        400, "dimensions", b'{"model": "all-minilm-l6-v2", "input": "a", "dimensions": 9999}',
    ),
    "unknown model": (404, "nobody", b'{"model": "nobody", "input": "a"}'),
    "model without a tokenizer": (400, "simple", b'{"model": "simple", "input": "a"}'),
    "deep JSON": (400, "input", b'{"input": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPENAI)
def test_a_bad_embeddings_request_is_refused_in_the_shape_its_clients_read(server: Server, name: str) -> None:
    status, reason, request = OPENAI[name]
    answer = call(server, "/v1/embeddings", request)
    assert answer.status == status, answer.body[:300]
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert reason in answer.error
    assert answer.headers["x-should-retry"] == "false"


def raw(server: Server, sent: bytes) -> bytes:
    """What comes back for bytes that are not even HTTP, up to the end of the connection."""
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


HEAD = b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 100\r\n\r\n{}", b"400"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n", b"400"),
        (HEAD + b"".join(b"X-%d: a\r\n" % n for n in range(500)) + b"\r\n", b"431"),
    ],
    ids=["garbage", "negative length", "truncated body", "truncated chunk", "many headers"],
)
def test_broken_http_is_answered_and_the_connection_closed(server: Server, sent: bytes, status: bytes) -> None:
    assert raw(server, sent).split(b" ")[:2] == [b"HTTP/1.1", status]


def test_a_client_that_leaves_stops_its_request(server: Server) -> None:
    """Requests whose clients are gone leave the queue: else the last one here would find it full."""
    request = json.dumps(SLOW).encode()
    head = b"POST /v2/models/loop/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(request)
    host, port = server.http.split(":")
    for _ in range(4):
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(head + request)
    quick = [{**SLOW["inputs"][0], "data": [2]}, SLOW["inputs"][1]]
    answer = infer_json(server, "loop", inputs=quick)
    while answer.status == 503:  # Bounded by the test's own timeout: the four are still being noticed.
        answer = infer_json(server, "loop", inputs=quick)
    assert answer.status == 200, answer.body


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(server: Server) -> None:
    request = json.dumps({**SLOW, "parameters": {"timeout": 3_000_000}}).encode()
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(call(server, "/v2/models/loop/infer", request)))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} <= {200, 503, 504}
    refused = [answer for answer in answers if answer.status == 503]
    assert refused
    for answer in refused:
        assert "queue" in answer.error
        assert answer.headers["retry-after"] == "1"
