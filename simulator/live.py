"""The live replay: plays a trace against any scaler at the contest's interface, in real time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

import grpc
import grpc.aio
import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.service.address import DIRECT
from warmscaler.service.front.tls import PlatformTls
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.figures import MB_PER_GB, scores

CALL_TIMEOUT_S = 1_860.0
"""More than a scaler lets a request wait: a scaler that never answers must not hold the replay for ever."""


@dataclass(slots=True)
class LiveResult:
    """What the requests met. Times are at the trace's pace: real time times the speed."""

    trace: Trace
    wait_ms: npt.NDArray[np.float64] = field(init=False)
    """From sending Assign to its reply, a row per request of the trace; 0 where none came."""
    cold: npt.NDArray[np.bool_] = field(init=False)
    """Requests that found no ready idle instance, as far as the platform's side shows it."""
    wait_s: float = 0.0
    idle_call_s: float = 0.0
    execution_s: float = 0.0
    execution_gb_s: float = 0.0
    finished: int = 0
    failed: int = 0
    instances: set[str] = field(default_factory=set)
    """Every instance that served a request."""
    errors: Counter[str] = field(default_factory=Counter)
    start_time_s: float = 0.0
    end_time_s: float = 0.0

    def __post_init__(self) -> None:
        self.wait_ms = np.zeros(len(self.trace))
        self.cold = np.zeros(len(self.trace), dtype=np.bool_)

    def statistics(self, name: str, slot_gb_s: float, live_slots: int) -> dict[str, object]:
        """The contest's statistics page."""
        schedule_s, idle_s = self.wait_s, self.idle_call_s
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


async def connect(
    target: str,
    timeout_s: float = 10.0,
    *,
    tls: PlatformTls | None = None,
    name: str | None = None,
) -> grpc.aio.Channel:
    """A channel to the scaler at HOST:PORT, in the clear without `tls`.

    `name` is that in its certificate, where it is another than HOST. Raises ScalerUnreachable if it
    does not answer in time, and TlsError.
    """
    if tls is None:
        channel = grpc.aio.insecure_channel(target, [DIRECT])
    else:
        named = [] if name is None else [("grpc.ssl_target_name_override", name)]
        channel = grpc.aio.secure_channel(target, tls.credentials(), [DIRECT, *named])
    try:
        await asyncio.wait_for(channel.channel_ready(), timeout_s)
    except TimeoutError:
        await channel.close(None)
        over = "" if tls is None else " over TLS with these certificates"
        raise ScalerUnreachable(
            f"{target}: no scaler answers there{over}; start one first"
        ) from None
    return channel


async def play(
    trace: Trace,
    channel: grpc.aio.Channel,
    result: LiveResult,
    *,
    ready: Mapping[str, Set[str]] | None = None,
    speed: float = 1.0,
) -> None:
    """Plays every request of `trace` at its time; `result` fills as they end.

    Each request takes Assign, executes for its duration, then Idle (with `need_destroy` where its
    status is not 2xx). Raises nothing for a request that fails: it is counted. `ready` is the
    platform's account of instances that run, by app; cold starts are told from it, and without it
    they are guessed: requests that got an instance never seen before. Cancelled, it cancels what
    still runs, and `result` holds what has ended.
    """
    player = _Player(trace, channel, result, ready, speed)
    origin_s = time.monotonic()
    result.start_time_s = time.time()
    first_ms = int(trace.arrival_ms[0]) if len(trace) else 0
    running: set[asyncio.Task[None]] = set()
    try:
        for row, arrival_ms in enumerate(trace.arrival_ms.tolist()):
            due_s = origin_s + (arrival_ms - first_ms) / 1000.0 / speed
            pause_s = due_s - time.monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            task = asyncio.create_task(player.request(row))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
    finally:
        for task in running:  # left only where we are cancelled
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        result.end_time_s = time.time()


class _Failed(Exception):
    """A reply whose status is not Ok."""


class _Player:
    """One replay: sends each request, and keeps the books."""

    def __init__(
        self,
        trace: Trace,
        channel: grpc.aio.Channel,
        result: LiveResult,
        ready: Mapping[str, Set[str]] | None,
        speed: float,
    ) -> None:
        self._apps = trace.apps
        self._app = trace.app.tolist()
        self._duration_ms = trace.duration_ms.tolist()
        self._status_code = trace.status_code.tolist()
        self._metas = [
            pb.Meta(
                key=app.key,
                runtime=app.runtime,
                timeout_in_secs=app.timeout_s,
                memory_in_mb=app.memory_mb,
            )
            for app in trace.apps
        ]
        self._stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
        self._result = result
        self._ready = ready
        self._speed = speed
        self._busy: set[str] = set()
        self._warm_assigns: Counter[str] = Counter()
        """Requests by app that will take an idle instance and do not have its id yet."""

    async def request(self, row: int) -> None:
        """One request from its arrival to the end of its Idle."""
        result = self._result
        app = self._apps[self._app[row]]
        duration_ms, status_code = self._duration_ms[row], self._status_code[row]
        try:
            assignment = await self._assign(row, app.key)
            await asyncio.sleep(duration_ms / 1000.0 / self._speed)
            broken = not 200 <= status_code < 300
            if not broken:  # else it serves nobody any more
                self._busy.discard(assignment.instance_id)
            done = pb.Result(
                status_code=status_code, duration_in_ms=duration_ms, need_destroy=broken
            )
            called_s = time.monotonic()
            reply = await self._stub.Idle(
                pb.IdleRequest(assigment=assignment, result=done), timeout=CALL_TIMEOUT_S
            )
            result.idle_call_s += (time.monotonic() - called_s) * self._speed
            _check("Idle", reply.status, reply.error_message)
        except grpc.aio.AioRpcError as error:
            result.failed += 1
            result.errors[f"{error.code().name}: {error.details()}"] += 1
            return
        except _Failed as error:
            result.failed += 1
            result.errors[str(error)] += 1
            return
        result.finished += 1
        result.execution_s += duration_ms / 1000.0
        result.execution_gb_s += duration_ms / 1000.0 * app.memory_mb / MB_PER_GB

    async def _assign(self, row: int, key: str) -> pb.Assignment:
        result = self._result
        warm = self._is_warm(key)
        self._warm_assigns[key] += warm
        called_s = time.monotonic()
        try:
            reply = await self._stub.Assign(
                pb.AssignRequest(
                    request_id=f"r{row}",
                    timestamp=int(time.time() * 1000.0),
                    meta_data=self._metas[self._app[row]],
                ),
                timeout=CALL_TIMEOUT_S,
            )
        finally:
            self._warm_assigns[key] -= warm
        wait_s = (time.monotonic() - called_s) * self._speed
        _check("Assign", reply.status, reply.error_message)
        assignment: pb.Assignment = reply.assigment
        instance_id = assignment.instance_id
        if instance_id in self._busy:
            raise _Failed("Assign gave an instance that serves another request")
        result.wait_ms[row] = wait_s * 1000.0
        result.wait_s += wait_s
        result.cold[row] = instance_id not in result.instances if self._ready is None else not warm
        result.instances.add(instance_id)
        self._busy.add(instance_id)
        return assignment

    def _is_warm(self, key: str) -> bool:
        """Whether an instance of the app runs, is idle, and is not about to be another's."""
        if self._ready is None:
            return False
        idle = len(self._ready.get(key, set()) - self._busy)
        return idle > self._warm_assigns[key]


def _check(call: str, status: int, message: str) -> None:
    if status != pb.Ok:
        raise _Failed(f"{call} answered status {status}: {message}")
