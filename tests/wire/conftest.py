"""One server for the stories of the wire, and two ways to talk to it below the level of any client library."""

import http.client
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

import quickstart_model
from models.make_models import make
from serving import Server, serve

MODELS = ["simple", "increment", "perceptron", "fixed_shape", "gather", "loop"]
MODELS += ["identity_fp32", "identity_fp16", "identity_bytes"]

# A queue that two requests fill, in front of a model that takes as long as its input says.
LOOP_SETTINGS = "batching:\n  maxBatchSize: 0\n  maxQueue: 2\n"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    make(folder, MODELS)
    (folder / "loop/model.yaml").write_text(LOOP_SETTINGS)
    embedder = quickstart_model.FOLDER.parent
    shutil.copytree(embedder, folder / embedder.name)
    return folder


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(repository, tmp_path_factory.mktemp("log") / "engine.log") as server:
        yield server


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of an error in either shape."""
        error = self.json["error"]
        return error["message"] if isinstance(error, dict) else error


def call(server: Server, path: str, body: bytes | None = None, headers: dict | None = None, method: str = "") -> Answer:
    """One request on a connection of its own, with exactly these headers besides Host and Content-Length."""
    connection = http.client.HTTPConnection(server.http, timeout=120)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        response = connection.getresponse()
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lowered, response.read())
    finally:
        connection.close()


def infer_json(server: Server, model: str, **members: object) -> Answer:
    return call(server, f"/v2/models/{model}/infer", json.dumps(members).encode())


@pytest.fixture(scope="session")
def stub(server: Server) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=unlimited) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def still_serves(server: Server, stub: service_pb2_grpc.GRPCInferenceServiceStub) -> Iterator[Callable[[], None]]:
    """Whatever a test did: afterwards, both protocols answer a good request."""

    def good_requests() -> None:
        x = [[1.5, -2.0]]
        answer = infer_json(
            server, "identity_fp32", inputs=[{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": x}]
        )
        assert (answer.status, answer.json["outputs"][0]["data"]) == (200, x[0]), answer.body
        raw = np.array(x, np.float32).tobytes()
        request = service_pb2.ModelInferRequest(model_name="identity_fp32", raw_input_contents=[raw])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
        assert stub.ModelInfer(request, timeout=60).raw_output_contents[0] == raw

    yield good_requests
    good_requests()
    assert server.process.poll() is None
