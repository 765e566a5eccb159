"""What the protocol promises beyond the answer itself: headers, encodings, ids, order, the end of a server."""

import base64
import gzip
import json
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from serving import ROOT, Server, serve

from .conftest import Answer, call, infer_json

X = [[0.5, -3.0]]
INPUT = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": X}
INFER = "/v2/models/identity_fp32/infer"


def ask(server: Server, headers: dict | None = None, **members: object) -> Answer:
    answer = call(server, INFER, json.dumps({"inputs": [INPUT], **members}).encode(), headers)
    assert answer.status == 200, answer.body
    return answer


def test_health_is_json_that_every_client_reads(server: Server) -> None:
    for path, wanted in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/simple/ready", {"name": "simple", "ready": True}),
        ("/v2/models/simple/versions/1/ready", {"name": "simple", "ready": True}),
    ):
        answer = call(server, path)
        assert (answer.status, answer.headers["content-type"], answer.json) == (200, "application/json", wanted)


def test_the_server_lists_only_what_works(server: Server) -> None:
    for path in ("/v2", "/v2/"):
        described = call(server, path).json
        assert described["name"] == "afterglow"
        assert described["extensions"] == [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
            "parameters",
            "schedule_policy",
            "statistics",
        ]


def test_an_id_comes_back_and_an_empty_one_does_not(server: Server) -> None:
    assert ask(server, id="seven").json["id"] == "seven"
    assert "id" not in ask(server, id="").json
    assert "id" not in ask(server).json


def test_nothing_depends_on_the_content_type(server: Server) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain", "nonsense"):
        assert ask(server, {"Content-Type": kind}).json["outputs"][0]["data"] == X[0]


def test_a_binary_answer_says_where_its_json_ends_and_a_json_answer_does_not(server: Server) -> None:
    answer = ask(server, parameters={"binary_data_output": True})
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", answer.body[length:]) == tuple(X[0])
    plain = ask(
        server, parameters={"binary_data_output": True}, outputs=[{"name": "y", "parameters": {"binary_data": False}}]
    )
    assert plain.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in plain.headers


def test_a_header_of_the_whole_length_is_all_json(server: Server) -> None:
    body = json.dumps({"inputs": [INPUT]})
    answer = call(server, INFER, body.encode(), {"Inference-Header-Content-Length": str(len(body))})
    assert answer.json["outputs"][0]["data"] == X[0]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_are_compressed_both_ways_and_the_header_counts_plain_bytes(server: Server, coding: str, pack) -> None:
    values = np.zeros((1, 5000), np.float32)
    tensor = {"name": "x", "shape": values.shape, "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "Content-Encoding": coding, "Accept-Encoding": coding, "Inference-Header-Content-Length": str(len(head)),
    }  # fmt: skip
    answer = call(server, INFER, pack(head + values.tobytes()), headers)
    assert (answer.status, answer.headers["content-encoding"]) == (200, coding)
    plain = gzip.decompress(answer.body) if coding == "gzip" else zlib.decompress(answer.body)
    assert plain[int(answer.headers["inference-header-content-length"]) :] == values.tobytes()


def test_small_answers_and_clients_that_did_not_ask_get_plain_bytes(server: Server) -> None:
    assert "content-encoding" not in ask(server, {"Accept-Encoding": "gzip"}).headers
    assert "content-encoding" not in ask(server).headers


def test_a_raw_request_is_the_data_of_the_only_input(server: Server) -> None:
    raw = np.arange(12, dtype=np.float32).tobytes()
    answer = call(server, "/v2/models/fixed_shape/infer", raw, {"Inference-Header-Content-Length": "0"})
    assert answer.status == 200, answer.body
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["shape"] == [3, 2]
    assert len(answer.body) - length == 24


def test_nan_and_infinity_travel_as_json_and_as_bytes(server: Server) -> None:
    values = [float("nan"), float("inf"), float("-inf")]
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": values}
    answer = infer_json(server, "identity_fp32", inputs=[tensor])
    data = answer.json["outputs"][0]["data"]
    assert np.array_equal(data, values, equal_nan=True)
    assert b'"data":[NaN,Infinity,-Infinity]' in answer.body
    # Whatever the bits: perf_analyzer sends random ones.
    raw = b"\x01\x00\x80\x7f\xff\xff\xff\xff"
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = call(server, INFER, head + raw, {"Inference-Header-Content-Length": str(len(head))})
    assert answer.body.endswith(raw)


def test_classes_are_ranked_in_json_and_over_grpc(server: Server, stub: GRPCInferenceServiceStub) -> None:
    scores = [[0.25, 3.0, -1.0, 2.0]]
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": scores}
    wanted = [{"name": "y", "parameters": {"classification": 2}}]
    (output,) = infer_json(server, "identity_fp32", inputs=[tensor], outputs=wanted).json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    assert output["data"] == ["3.000000:1", "2.000000:3"]
    request = service_pb2.ModelInferRequest(model_name="identity_fp32")
    request.raw_input_contents.append(np.array(scores, np.float32).tobytes())
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.outputs.add(name="y").parameters["classification"].int64_param = 1
    assert stub.ModelInfer(request, timeout=60).raw_output_contents[0] == b"\x0a\0\0\0" + b"3.000000:1"


def test_strings_hold_any_bytes_and_json_says_which_it_cannot_carry(server: Server) -> None:
    for text, as_json in ((b"\xff\xfe", 400), (b"a\0b", 200), (b"", 200)):
        raw = struct.pack("<I", len(text)) + text
        tensor = {"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
        for binary, status in ((True, 200), (False, as_json)):
            head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": binary}}).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            answer = call(server, "/v2/models/identity_bytes/infer", head + raw, headers)
            assert answer.status == status, answer.body
            if binary:
                assert answer.body.endswith(raw)
            elif status == 200:
                assert answer.json["outputs"][0]["data"] == [text.decode()]
            else:
                assert "binary" in answer.error


def test_embeddings_come_as_floats_and_as_base64(server: Server) -> None:
    asked = {"model": "all-minilm-l6-v2", "input": ["first light", "last light"]}

    def vectors(path: str, **more: object) -> list:
        answer = call(server, path, json.dumps({**asked, **more}).encode())
        assert answer.status == 200, answer.body
        assert answer.json["usage"]["prompt_tokens"] == answer.json["usage"]["total_tokens"] > 0
        return [item["embedding"] for item in answer.json["data"]]

    floats = np.array(vectors("/v1/embeddings"))
    packed = [
        np.frombuffer(base64.b64decode(text), "<f4")
        for text in vectors("/openai/v1/embeddings", encoding_format="base64")
    ]
    assert floats.shape == (2, 384)
    assert np.allclose(floats, packed, atol=1e-6)
    listed = call(server, "/v1/models").json
    assert [model["id"] for model in listed["data"]] == ["all-minilm-l6-v2"]
    assert call(server, "/v1/models/all-minilm-l6-v2").json == listed["data"][0]
    assert call(server, "/v1/models/simple").status == 404


def test_metrics_have_a_listener_of_their_own(server: Server) -> None:
    ask(server)
    lines = server.metric_lines()
    assert any(line.startswith("nv_inference_request_success{") and "identity_fp32" in line for line in lines)
    assert call(server, "/metrics").status == 404


def test_one_connection_serves_many_requests(server: Server) -> None:
    body = json.dumps({"inputs": [INPUT]}).encode()
    request = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(body)) + body
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for _ in range(20):
            connection.sendall(request)
            answer = b""
            while b'"data":[0.5,-3.0]' not in answer:
                piece = connection.recv(65536)
                assert piece
                answer += piece


def test_a_stream_answers_in_order_and_marks_the_last_answer_on_request(stub: GRPCInferenceServiceStub) -> None:
    def request(index: int) -> service_pb2.ModelInferRequest:
        message = service_pb2.ModelInferRequest(model_name="identity_fp32", id=str(index))
        message.raw_input_contents.append(struct.pack("<f", index))
        message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
        if index % 2:
            message.parameters["triton_enable_empty_final_response"].bool_param = True
        return message

    answers = [answer.infer_response for answer in stub.ModelStreamInfer(map(request, range(200)), timeout=120)]
    assert [answer.id for answer in answers] == [str(index) for index in range(200)]
    for index, answer in enumerate(answers):
        assert answer.raw_output_contents[0] == struct.pack("<f", index)
        assert ("triton_final_response" in answer.parameters) == bool(index % 2)


HEALTH = "/grpc.health.v1.Health/Check"


def health(channel: grpc.Channel, service: str) -> bytes:
    """The answer's bytes: 08 01 is SERVING. The health protocol's Python package is not worth a dependency."""
    check = channel.unary_unary(HEALTH, request_serializer=None, response_deserializer=None)
    name = service.encode()
    return check(bytes([0x0A, len(name)]) + name if name else b"", timeout=60)


def test_grpc_health_is_served(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        assert health(channel, "") == b"\x08\x01"
        assert health(channel, "inference.GRPCInferenceService") == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as error:
            health(channel, "nobody")
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_stopping_server_finishes_what_runs_and_takes_nothing_new(repository: Path, tmp_path: Path) -> None:
    times = {"name": "times", "shape": [], "datatype": "INT64", "data": [300_000]}
    body = {"inputs": [times, {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}]}
    wanted = [{"name": "y"}]
    answers: list[Answer] = []
    with serve(repository, tmp_path / "log") as server:
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as idle:
            idle.sendall(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")
            running = threading.Thread(
                target=lambda: answers.append(infer_json(server, "loop", **body, outputs=wanted)), daemon=True
            )
            running.start()
            in_flight(server)
            server.process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""
        with pytest.raises(ConnectionError):
            call(server, "/v2/health/live")
        running.join(60)
        assert [answer.status for answer in answers] == [200]
        assert server.process.wait(60) == 0


def in_flight(server: Server) -> None:
    """Until the slow request runs."""
    deadline = time.monotonic() + 60
    while "vllm:num_requests_running 1" not in server.metric_lines():
        assert time.monotonic() < deadline


def test_the_guides_commands_run(server: Server, tmp_path: Path) -> None:
    page = (ROOT / "docs/guide/protocols.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    for block in blocks:
        script = block.replace("curl -s", "curl -sS --fail-with-body").replace("localhost:8000", server.http)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "answer").read_bytes().endswith(struct.pack("<f", 2))
