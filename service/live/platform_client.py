"""The platform's three calls, each with one kind of error.

How long is waited for an answer is decided where slots' lives are. gRPC's own deadline is set well
beyond that: it would end a call whose answer lies in the socket of a process that stood still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio

from warmscaler.service.live.line import Line, is_silent, log
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.slots.answers import Made, PlatformError
from warmscaler.service.slots.giving_back import DESTROY_S
from warmscaler.service.slots.lives import START_ATTEMPTS
from warmscaler.service.slots.times import StartLimits

__all__ = ["Made", "PlatformClient", "PlatformError"]

SPARE_S = 60.0
"""So much longer than we wait for an answer gRPC does."""
SILENCE_S = 15.0
"""A connection that has said nothing for so long to who waits for it is asked whether it lives."""
SILENT_AGAIN_S = 60.0
"""Where nobody answers on a new connection either, it is asked again after SILENCE_S, twice as
long, and so on up to this."""

_HOPELESS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.OUT_OF_RANGE,
}
"""The same call would fail again, and did nothing."""
_NOT_DONE = _HOPELESS | {
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
}
"""The platform says that it did nothing."""


class PlatformClient:
    """Talks to the platform at `target` (HOST:PORT); connects when first needed, and again.

    A connection can go silent without being closed: a proxy that passes no bytes any more. HTTP/2
    pings would tell, and a platform may forbid them (GOAWAY too_many_pings). So a silent connection
    is asked by a call, the standard health check, which every gRPC server answers, if only that it
    has no such thing. Where it does not, and a new connection does, the new one is used from then
    on and the calls on the old one have failed. Where neither does, nothing is known and nothing
    changes: the platform is slow, or away.
    """

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None = None,
        limits: StartLimits | None = None,
    ) -> None:
        """In the clear without `credentials`."""
        self.target = target
        limits = limits or StartLimits()
        self._create_s = START_ATTEMPTS * limits.slow_create_s + SPARE_S
        self._init_s = limits.init_s + SPARE_S
        self._credentials = credentials
        self._line = Line(target, credentials)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = False

    async def reconnect(self, credentials: grpc.ChannelCredentials) -> None:
        """New calls go over a new connection; returns when those on the old one are done."""
        old = self._line
        self._credentials = credentials
        self._line = Line(self.target, credentials)
        # Each of its calls has a deadline of its own before that.
        await old.channel.close(max(self._create_s, self._init_s))

    async def create_slot(self, request_id: str, memory_mb: int) -> Made:
        """The new slot."""
        request = pb.CreateSlotRequest(
            request_id=request_id,
            resource_config=pb.ResourceConfig(memory_in_megabytes=memory_mb),
        )
        reply = await self._call("CreateSlot", request, self._create_s)
        if not reply.slot.id:
            raise PlatformError("CreateSlot answered Ok without a slot", retry=True)
        return Made(reply.slot.id, reply.slot.resource_config.memory_in_megabytes)

    async def init(self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta) -> None:
        """Starts the app in the slot; returns when it runs."""
        request = pb.InitRequest(
            request_id=request_id, slot_id=slot_id, instance_id=instance_id, meta_data=meta
        )
        await self._call("Init", request, self._init_s)

    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None:
        """Gives the slot back. A slot that the platform no longer knows counts as given back."""
        request = pb.DestroySlotRequest(request_id=request_id, id=slot_id, reason=reason)
        try:
            await self._call("DestroySlot", request, DESTROY_S + SPARE_S)
        except PlatformError as error:
            if not error.not_found:
                raise

    async def close(self) -> None:
        """Ends the connection."""
        for task in list(self._tasks):
            task.cancel()
        await self._line.channel.close(None)

    async def _call(self, name: str, request: Any, timeout_s: float) -> Any:
        """The reply, if it says that all went well. Raises PlatformError."""
        line = self._line
        call = getattr(line.stub, name)(request, timeout=timeout_s)
        line.began(call)
        if not self._listening:
            self._listening = True
            self._spawn(self._listen())
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                line.heard(call)
            raise _failure(name, error) from None
        except asyncio.CancelledError:
            if not line.given_up or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            raise PlatformError(
                f"{name} failed: the connection went silent",
                retry=True,
                in_doubt=True,
                unreachable=True,
            ) from None
        else:
            line.heard(call)
        finally:
            line.ended(call)
        if answer is None:  # gRPC could not read it, and has logged that
            raise PlatformError(f"{name} answered what cannot be read", retry=True, in_doubt=True)
        status = answer.status
        if status != pb.Ok:
            says = pb.Status.Name(status) if status in pb.Status.values() else str(status)
            raise PlatformError(
                f"{name} answered {says}: {' '.join(answer.error_message.split())}"[:300],
                retry=status in (pb.Throttle, pb.InternalError),
                not_found=status == pb.NotFound,
            )
        return answer

    async def _listen(self) -> None:
        """While calls wait: whether anybody is there."""
        patience_s = SILENCE_S
        try:
            while (line := self._line).waits:
                left_s = patience_s - line.silent_s()
                if left_s > 0.0:
                    await asyncio.sleep(left_s)
                elif not await is_silent(line):
                    line.heard()
                    patience_s = SILENCE_S
                elif await self._is_replaced(line):
                    patience_s = SILENCE_S
                else:
                    line.heard()
                    patience_s = min(2.0 * patience_s, SILENT_AGAIN_S)
        finally:
            self._listening = False

    async def _is_replaced(self, old: Line) -> bool:
        """Whether the platform answers on a new connection, which is then the one to use."""
        new = Line(self.target, self._credentials)
        if await is_silent(new, answer_wanted=True) or self._line is not old:
            await new.channel.close(None)
            return False
        self._line = new
        log.warning("the connection to the platform went silent; a new one is used")
        old.give_up()
        self._spawn(old.channel.close(None))
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _failure(call: str, error: grpc.aio.AioRpcError) -> PlatformError:
    code = error.code()
    details = " ".join((error.details() or "").split())
    return PlatformError(
        f"{call} failed: {code.name}: {details}"[:300],
        retry=code not in _HOPELESS,
        in_doubt=code not in _NOT_DONE,
        unreachable=code is grpc.StatusCode.UNAVAILABLE,
        timed_out=code is grpc.StatusCode.DEADLINE_EXCEEDED,
        not_found=code is grpc.StatusCode.NOT_FOUND,
    )
