"""Traces at a collector of the real protocol: off by default, and what a request leaves there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.service.running import assign, done, served

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc

from warmscaler.service.observability.tracing import Tracing

pytestmark = pytest.mark.usefixtures("transport")

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


class Collector(collector_grpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the wire's name
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return collector.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    collector_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_requests_and_starts_are_spans() -> None:
    async def run(tracing: Tracing) -> None:
        async with served(observers=(tracing,), heard=tracing.heard) as here:
            for number, metadata in enumerate([(("traceparent", PARENT),), ()]):
                reply = await here.stub.Assign(assign(str(number)), metadata=metadata)
                await here.stub.Idle(done(reply.assigment))
            stranger = assign("2")
            stranger.meta_data.key = "not of the\nplatform"
            with suppress(grpc.aio.AioRpcError):
                await here.stub.Assign(stranger)

    with collecting() as (kept, target):
        tracing = Tracing(target)
        asyncio.run(run(tracing))
        tracing.close()
    spans = sorted(kept.spans, key=lambda span: int(span.start_time_unix_nano))
    requests = [span for span in spans if span.name == "Assign"]
    assert [span.trace_id.hex() == TRACE_ID for span in requests] == [True, False, False]
    cold = [
        each.value.bool_value
        for span in requests
        for each in span.attributes
        if each.key == "scaler.cold"
    ]
    assert cold == [True, False]
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano for span in spans)
    starts = [span for span in spans if span.name == "start instance"]
    assert len(starts) >= 2
    assert [event.name for event in starts[0].events] == ["slot created"]
    assert requests[2].status.code == 2
    texts = [each.value.string_value for span in spans for each in span.attributes]
    assert all(text.isprintable() for text in texts)


def test_a_collector_that_is_not_there_keeps_nobody_waiting() -> None:
    async def run(tracing: Tracing) -> None:
        async with served(observers=(tracing,)) as here:
            reply = await here.stub.Assign(assign())
            await here.stub.Idle(done(reply.assigment))

    tracing = Tracing("127.0.0.1:1")
    asyncio.run(run(tracing))


def test_without_the_extra_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").write_text("")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from warmscaler.cli.main import main;"
        "sys.argv = ['scaler', 'serve', '--policy', 'fixed:300', '--otlp', '127.0.0.1:4317']; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("scaler: --otlp 127.0.0.1:4317: opentelemetry.trace is not")
    assert ended.stderr.count("\n") == 1
