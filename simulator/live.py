"""The live replay: plays a trace against any scaler at the contest's interface, in real time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import grpc.aio

from data.trace import Trace
from service.proto import scaler_pb2 as pb
from service.proto.scaler_pb2_grpc import ScalerStub
from simulator.figures import MB_PER_GB, scores


@dataclass(slots=True)
class LiveResult:
    """What the requests met. Times are at the trace's pace: real time times the speed."""

    trace: Trace
    wait_ms: list[float] = field(default_factory=list)
    idle_call_ms: list[float] = field(default_factory=list)
    execution_s: float = 0.0
    execution_gb_s: float = 0.0
    finished: int = 0
    failed: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    start_time_s: float = 0.0
    end_time_s: float = 0.0

    def statistics(self, name: str, slot_gb_s: float, live_slots: int) -> dict[str, object]:
        """The contest's statistics page."""
        schedule_s = sum(self.wait_ms) / 1000.0
        idle_s = sum(self.idle_call_ms) / 1000.0
        resource, cold_start = scores(
            self.execution_gb_s, slot_gb_s, self.execution_s, schedule_s + idle_s
        )
        total = self.finished + self.failed
        return {
            "id": name,
            "requestFilePath": f"{name}/requests",
            "metaFilePath": f"{name}/metas",
            "startTime": self.start_time_s,
            "endTime": self.end_time_s,
            "totalRequestsCount": total,
            "failedRequestsCount": self.failed,
            "successRate": self.finished / total if total else 1.0,
            "invocationLatencyInSecs": self.execution_s + schedule_s + idle_s,
            "invocationExecutionTimeInSecs": self.execution_s,
            "invocationExecutionTimeInGBs": self.execution_gb_s,
            "invocationScheduleTimeInSecs": schedule_s,
            "invocationIdleTimeInSecs": idle_s,
            "totalSlotTimeInGBs": slot_gb_s,
            "totalLiveSlotCount": live_slots,
            "score": resource + cold_start,
        }


class ScalerUnreachable(Exception):
    """No scaler answers at the address."""


async def connect(target: str, timeout_s: float = 10.0) -> grpc.aio.Channel:
    """A channel to the scaler at HOST:PORT; ScalerUnreachable if it does not answer in time."""
    channel = grpc.aio.insecure_channel(target)
    try:
        await asyncio.wait_for(channel.channel_ready(), timeout_s)
    except TimeoutError:
        await channel.close(None)
        raise ScalerUnreachable(f"{target}: no scaler answers there; start one first") from None
    return channel


async def play(
    trace: Trace, channel: grpc.aio.Channel, result: LiveResult, *, speed: float = 1.0
) -> None:
    """Plays every request of `trace` at its time; `result` fills as they end.

    Each request takes Assign, executes for its duration, then Idle (with `need_destroy` where its
    status is not 2xx). Raises nothing for a request that fails: it is counted.
    """
    stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
    metas = [
        pb.Meta(
            key=app.key,
            runtime=app.runtime,
            timeout_in_secs=app.timeout_s,
            memory_in_mb=app.memory_mb,
        )
        for app in trace.apps
    ]

    async def request(row: int, app: int, duration_ms: int, status_code: int) -> None:
        called_s = time.monotonic()
        meta = metas[app]
        try:
            reply = await stub.Assign(
                pb.AssignRequest(
                    request_id=f"r{row}",
                    timestamp=int(time.time() * 1000.0),
                    meta_data=meta,
                )
            )
            result.wait_ms.append((time.monotonic() - called_s) * 1000.0 * speed)
            await asyncio.sleep(duration_ms / 1000.0 / speed)
            idle_s = time.monotonic()
            await stub.Idle(
                pb.IdleRequest(
                    assigment=reply.assigment,
                    result=pb.Result(
                        status_code=status_code,
                        duration_in_ms=duration_ms,
                        need_destroy=not 200 <= status_code < 300,
                    ),
                )
            )
        except grpc.aio.AioRpcError as error:
            result.failed += 1
            reason = f"{error.code().name}: {error.details()}"
            result.errors[reason] = result.errors.get(reason, 0) + 1
            return
        result.idle_call_ms.append((time.monotonic() - idle_s) * 1000.0 * speed)
        result.finished += 1
        result.execution_s += duration_ms / 1000.0
        result.execution_gb_s += duration_ms / 1000.0 * trace.apps[app].memory_mb / MB_PER_GB

    origin_s = time.monotonic()
    result.start_time_s = time.time()
    first_ms = int(trace.arrival_ms[0]) if len(trace) else 0
    running: set[asyncio.Task[None]] = set()
    columns = zip(
        trace.arrival_ms.tolist(),
        trace.app.tolist(),
        trace.duration_ms.tolist(),
        trace.status_code.tolist(),
        strict=True,
    )
    for row, (arrival_ms, app, duration_ms, status_code) in enumerate(columns):
        due_s = origin_s + (arrival_ms - first_ms) / 1000.0 / speed
        pause_s = due_s - time.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        task = asyncio.create_task(request(row, app, duration_ms, status_code))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    result.end_time_s = time.time()
