"""A collector of traces: OTLP's own gRPC service, which keeps what it receives."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire

WITHIN = 60.0


@dataclass(frozen=True)
class Span:
    """A span as it arrived. Times are nanoseconds since 1970."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    attributes: dict[str, Any]
    links: list[tuple[str, str]]

    def holds(self, other: "Span") -> bool:
        """Whether the other one lies within this one's time."""
        return self.begin <= other.begin <= other.end <= self.end


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """What has arrived, and a way to wait for more."""

    address: str = ""
    spans: list[Span] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, _context: object) -> object:
        spans = [
            span_of(str(attributes(of_service.resource.attributes)["service.name"]), span)
            for of_service in request.resource_spans
            for scope in of_service.scope_spans
            for span in scope.spans
        ]
        with self.arrived:
            self.spans += spans
            self.arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace(self, trace: str, complete: Callable[[list[Span]], bool]) -> list[Span]:
        """The trace's spans, once they satisfy this."""
        deadline = time.monotonic() + WITHIN
        with self.arrived:
            while True:
                spans = [span for span in self.spans if span.trace == trace]
                if complete(spans):
                    return spans
                left = deadline - time.monotonic()
                names = sorted(f"{span.service}:{span.name}" for span in spans)
                assert left > 0, f"of trace {trace} only {names} arrived"
                self.arrived.wait(left)


def span_of(service: str, span: Wire) -> Span:
    return Span(
        service,
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        attributes(span.attributes),
        [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


def attributes(pairs: list[KeyValue]) -> dict[str, Any]:
    def plain(value: AnyValue) -> Any:
        kind = value.WhichOneof("value")
        return getattr(value, kind) if kind else None

    return {pair.key: plain(pair.value) for pair in pairs}


@contextmanager
def collector() -> Iterator[Collector]:
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    kept.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield kept
    finally:
        server.stop(None).wait()
