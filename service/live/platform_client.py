"""The platform's three calls, each with a deadline and one kind of error."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import grpc.aio

from warmscaler.service.address import DIRECT
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import PlatformStub

CREATE_TIMEOUT_S = 300.0
"""Far beyond what any request waits: a call that is cancelled may make a slot nobody knows of."""
INIT_TIMEOUT_S = 120.0
DESTROY_TIMEOUT_S = 10.0
_CHANNEL_OPTIONS = [
    DIRECT,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


_HOPELESS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.OUT_OF_RANGE,
}
"""The same call would fail again, and did nothing."""


class PlatformError(Exception):
    """A call of the platform that did not do what was asked. Its text is the reason, one line."""

    def __init__(
        self,
        reason: str,
        *,
        retry: bool = False,
        in_doubt: bool = False,
        unreachable: bool = False,
        not_found: bool = False,
    ) -> None:
        """`retry`: the same call may do better. `in_doubt`: it may have been done all the same.
        `unreachable`: the platform as a whole does not answer. `not_found`: it knows no such slot.
        """
        super().__init__(reason)
        self.retry = retry
        self.in_doubt = in_doubt
        self.unreachable = unreachable
        self.not_found = not_found


class PlatformClient:
    """Talks to the platform at `target` (HOST:PORT); connects when first needed, and again."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        """In the clear without `credentials`."""
        self.target = target
        self._connect(credentials)

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            channel = grpc.aio.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        else:
            channel = grpc.aio.secure_channel(self.target, credentials, options=_CHANNEL_OPTIONS)
        self._channel = channel
        self._stub = PlatformStub(channel)  # type: ignore[no-untyped-call]

    async def reconnect(self, credentials: grpc.ChannelCredentials) -> None:
        """New calls go over a new connection; returns when those on the old one are done."""
        old = self._channel
        self._connect(credentials)
        await old.close(CREATE_TIMEOUT_S)  # each of them has a deadline of its own before that

    async def create_slot(self, request_id: str, memory_mb: int) -> str:
        """Returns the id of the new slot."""
        request = pb.CreateSlotRequest(
            request_id=request_id,
            resource_config=pb.ResourceConfig(memory_in_megabytes=memory_mb),
        )
        reply = await _answer(
            "CreateSlot", self._stub.CreateSlot(request, timeout=CREATE_TIMEOUT_S)
        )
        if not reply.slot.id:
            raise PlatformError("CreateSlot answered Ok without a slot", retry=True)
        return str(reply.slot.id)

    async def init(self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta) -> None:
        """Starts the app in the slot; returns when it runs."""
        request = pb.InitRequest(
            request_id=request_id, slot_id=slot_id, instance_id=instance_id, meta_data=meta
        )
        await _answer("Init", self._stub.Init(request, timeout=INIT_TIMEOUT_S))

    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None:
        """Gives the slot back. A slot that the platform no longer knows counts as given back."""
        request = pb.DestroySlotRequest(request_id=request_id, id=slot_id, reason=reason)
        call = self._stub.DestroySlot(request, timeout=DESTROY_TIMEOUT_S)
        try:
            await _answer("DestroySlot", call)
        except PlatformError as error:
            if not error.not_found:
                raise

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close(None)


async def _answer(call: str, reply: Awaitable[Any]) -> Any:
    """The reply, if it says that all went well. Raises PlatformError."""
    try:
        answer = await reply
    except grpc.aio.AioRpcError as error:
        raise _failure(call, error) from None
    if answer is None:  # gRPC could not read it, and has logged that
        raise PlatformError(f"{call} answered what cannot be read", retry=True, in_doubt=True)
    status = answer.status
    if status != pb.Ok:
        name = pb.Status.Name(status) if status in pb.Status.values() else str(status)
        raise PlatformError(
            f"{call} answered {name}: {' '.join(answer.error_message.split())}"[:300],
            retry=status in (pb.Throttle, pb.InternalError),
            not_found=status == pb.NotFound,
        )
    return answer


def _failure(call: str, error: grpc.aio.AioRpcError) -> PlatformError:
    code = error.code()
    details = " ".join((error.details() or "").split())
    hopeless = code in _HOPELESS
    return PlatformError(
        f"{call} failed: {code.name}: {details}"[:300],
        retry=not hopeless,
        in_doubt=not hopeless,
        unreachable=code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED),
        not_found=code is grpc.StatusCode.NOT_FOUND,
    )
