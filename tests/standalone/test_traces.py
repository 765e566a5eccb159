"""One trace leads from the client's header through scheduler and engine to the kernel launches.

Its spans are those that docs/guide/traces.md lists.
"""

import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from models.make_models import make
from serving import DEVICE, ROOT, free_addresses
from standalone.collector import Collector, Span, collector
from standalone.up import Up, serve

SCHEDULER, ENGINE = "afterglow", "afterglow-engine"
KIND_SERVER, KIND_CLIENT = 2, 3
ON_DEVICE = DEVICE != "cpu"
CLIENT = "00f067aa0ba902b7"

# A batch is two requests of one row, and the first one waits for the second.
TOGETHER = "batching: { maxBatchSize: 2, maxDelay: 10s }\n"

numbers = count(1)


def new_trace() -> str:
    return f"{0xA3CE929D0E0E4736 << 64 | next(numbers):032x}"


def parent(trace: str, sampled: bool = True) -> str:
    return f"00-{trace}-{CLIENT}-{int(sampled):02x}"


@pytest.fixture(scope="module")
def received() -> Iterator[Collector]:
    with collector() as received:
        yield received


def environment(address: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}", "OTEL_BSP_SCHEDULE_DELAY": "50"}


def models(folder: Path) -> Path:
    make(folder, ["increment"])
    return folder


@pytest.fixture(scope="module")
def up(received: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = models(tmp_path_factory.mktemp("models"))
    make(folder, ["perceptron"])
    (folder / "perceptron").rename(folder / "pairs")
    (folder / "pairs/model.yaml").write_text(TOGETHER)
    log = tmp_path_factory.mktemp("log") / "up.log"
    with serve(folder, log, environment=environment(received.address)) as up:
        yield up


def over_rest(up: Up, trace: str, model: str = "increment", sampled: bool = True) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.5]}]}
    status, answer = up.post(f"/v2/models/{model}/infer", body, traceparent=parent(trace, sampled))
    assert (status, answer["outputs"][0]["data"]) == (200, [2.5]), answer


def message() -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(
        model_name="increment", raw_input_contents=[np.array([1.5], np.float32).tobytes()]
    )
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    return request


def over_grpc(up: Up, trace: str) -> None:
    with grpc.insecure_channel(up.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(message(), timeout=60, metadata=[("traceparent", parent(trace))])
    assert np.frombuffer(answer.raw_output_contents[0], np.float32) == [2.5]


def over_a_stream(up: Up, trace: str) -> None:
    with grpc.insecure_channel(up.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = stub.ModelStreamInfer(iter([message()]), timeout=60, metadata=[("traceparent", parent(trace))])
        assert [answer.error_message for answer in answers] == [""]


def ended(spans: list[Span]) -> bool:
    """Everything else of a trace has ended before, here and in the engine, which is another process."""
    servers = {span.service for span in spans if span.name == "serve"}
    return servers == {SCHEDULER, ENGINE} and has(spans, "launch" if ON_DEVICE else "run")


def has(spans: list[Span], name: str) -> bool:
    return any(span.name == name for span in spans)


def the(spans: list[Span], service: str, name: str) -> Span:
    (found,) = (span for span in spans if (span.service, span.name) == (service, name))
    return found


def above(spans: list[Span], span: Span) -> list[str]:
    """The names from this span up to the client."""
    by_id = {each.id: each for each in spans}
    names = []
    while span.parent != CLIENT:
        span = by_id[span.parent]
        names.append(f"{span.service}:{span.name}")
    return names


def documented() -> set[str]:
    """The names in the tables of the guide."""
    guide = (ROOT / "docs/guide/traces.md").read_text()
    return set(re.findall(r"^\| `([a-z]+)` \|", guide, re.MULTILINE))


def check(spans: list[Span], *within: str) -> None:
    """The chain of parents; `within` is what a stream has on top."""
    front = the(spans, SCHEDULER, "serve")
    assert (front.parent, front.kind) == (CLIENT, KIND_SERVER)
    attempt = the(spans, SCHEDULER, "attempt")
    to_send = [*within, f"{SCHEDULER}:serve"]
    assert above(spans, attempt) == [f"{SCHEDULER}:send", *to_send]
    assert attempt.kind == KIND_CLIENT
    assert attempt.attributes["attempt"] == 1
    assert attempt.attributes["outcome"] == "answered"
    assert attempt.attributes["replica"].startswith("default/increment-")
    assert attempt.attributes["because"]
    for name in ["snapshot", "pick"]:
        assert above(spans, the(spans, SCHEDULER, name)) == above(spans, attempt)

    served = the(spans, ENGINE, "serve")
    assert served.kind == KIND_SERVER
    to_engine = [f"{ENGINE}:serve", f"{SCHEDULER}:attempt", *above(spans, attempt)]
    assert above(spans, served) == to_engine[1:]
    for name in ["decode", "admit", "queue", "batch", "encode"]:
        assert above(spans, the(spans, ENGINE, name)) == to_engine, name
    batch = [f"{ENGINE}:batch", *to_engine]
    for name in ["gather", "run", "scatter"]:
        assert above(spans, the(spans, ENGINE, name)) == batch, name
    if not ON_DEVICE:
        return
    run, compute = the(spans, ENGINE, "run"), the(spans, ENGINE, "compute")
    assert above(spans, compute) == [f"{ENGINE}:run", *batch]
    assert run.holds(compute), "the provider's clock is the engine's"
    assert compute.holds(the(spans, ENGINE, "plan"))
    launches = [span for span in spans if span.name == "launch"]
    assert compute.attributes["launches"] == len(launches) > 0
    for launch in launches:
        assert above(spans, launch) == [f"{ENGINE}:compute", f"{ENGINE}:run", *batch]
        assert compute.holds(launch), "the device's clock is laid over the host's"
        assert launch.attributes["kernel"]
        assert launch.attributes["operator"]
        assert re.fullmatch(r"\d+x\d+x\d+", launch.attributes["global"])
        assert launch.attributes["device_ns"] == launch.end - launch.begin > 0


@pytest.mark.parametrize("ask", [over_rest, over_grpc])
def test_one_trace_leads_from_the_client_to_the_kernel_launches(
    up: Up, received: Collector, ask: Callable[[Up, str], None]
) -> None:
    trace = new_trace()
    ask(up, trace)
    spans = received.trace(trace, ended)
    check(spans)
    assert above(spans, the(spans, SCHEDULER, "admit")) == [f"{SCHEDULER}:serve"]
    assert {span.name for span in spans} <= documented()
    assert documented() - {span.name for span in spans} <= {"message", "tokenize", "compute", "plan", "launch"}


def test_each_message_of_a_stream_has_its_part_of_the_streams_trace(up: Up, received: Collector) -> None:
    trace = new_trace()
    over_a_stream(up, trace)
    spans = received.trace(trace, lambda spans: ended(spans) and has(spans, "message"))
    assert {span.name for span in spans} <= documented()
    # The scheduler sends a stream's messages one by one.
    check(spans, f"{SCHEDULER}:message")


def test_requests_of_one_batch_keep_their_traces_which_point_at_each_other(up: Up, received: Collector) -> None:
    traces = [new_trace(), new_trace()]
    body = {"inputs": [{"name": "x", "shape": [1, 32], "datatype": "FP32", "data": [0.5] * 32}]}

    def ask(trace: str) -> int:
        status, _ = up.post("/v2/models/pairs/infer", body, traceparent=parent(trace))
        return status

    with ThreadPoolExecutor(2) as side_by_side:
        assert list(side_by_side.map(ask, traces)) == [200, 200]
    one, other = (the(received.trace(trace, lambda spans: has(spans, "batch")), ENGINE, "batch") for trace in traces)
    assert (one.attributes["requests"], one.attributes["rows"]) == (2, 2)
    assert one.links == [(other.trace, other.id)]
    assert other.links == [(one.trace, one.id)]
    # What happened in the run is told once.
    runs = [span for span in received.spans if span.name == "run" and span.trace in traces]
    assert len(runs) == 1


def test_a_client_that_does_not_want_to_be_traced_is_not(up: Up, received: Collector) -> None:
    unwanted, wanted = new_trace(), new_trace()
    over_rest(up, unwanted, sampled=False)
    over_rest(up, wanted)
    received.trace(wanted, ended)
    assert [span for span in received.spans if span.trace == unwanted] == []


def test_only_requests_and_the_agents_own_steps_begin_traces(up: Up, received: Collector) -> None:
    """Not what is asked all day (is it ready, what models are there), nor a warm-up."""
    up.ready()
    up.states()
    over_rest(up, trace := new_trace())
    received.trace(trace, ended)
    roots = {span.name for span in received.spans if not span.parent}
    assert roots <= {"serve", "fetch", "probe", "load"}


@pytest.mark.parametrize("away", ["nobody listens", "it takes connections and says nothing"])
def test_a_collector_that_is_away_is_said_once_and_harms_no_request(tmp_path: Path, away: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    listens = away != "nobody listens"
    address = f"127.0.0.1:{silent.getsockname()[1]}" if listens else free_addresses(1)[0]
    told = {**environment(address), "OTEL_EXPORTER_OTLP_TIMEOUT": "500", "OTEL_BSP_MAX_QUEUE_SIZE": "4"}
    with silent, serve(models(tmp_path / "models"), tmp_path / "log", environment=told) as up:
        for _ in range(50):
            over_rest(up, new_trace())
        up.wait_until(lambda: "traces do not reach the collector" in up.said())
        for _ in range(50):
            over_rest(up, new_trace())
    said = [line for line in up.said().splitlines() if "traces do not reach the collector" in line]
    # Once by the scheduler, once by the engine.
    assert 1 <= len(said) <= 2, up.said()
