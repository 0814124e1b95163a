"""The platform's three calls, each with a deadline and one kind of error."""

from __future__ import annotations

import grpc
import grpc.aio

from service.proto import scaler_pb2 as pb
from service.proto.scaler_pb2_grpc import PlatformStub

CREATE_TIMEOUT_S = 300.0
"""Far beyond what any request waits: a call that is cancelled may make a slot nobody knows of."""
INIT_TIMEOUT_S = 120.0
DESTROY_TIMEOUT_S = 10.0
_CHANNEL_OPTIONS = [
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
        self, reason: str, *, retry: bool = False, in_doubt: bool = False, unreachable: bool = False
    ) -> None:
        """`retry`: the same call may do better. `in_doubt`: it may have been done all the same.
        `unreachable`: the platform as a whole does not answer."""
        super().__init__(reason)
        self.retry = retry
        self.in_doubt = in_doubt
        self.unreachable = unreachable


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
        await old.close(INIT_TIMEOUT_S)

    async def create_slot(self, request_id: str, memory_mb: int) -> str:
        """Returns the id of the new slot."""
        request = pb.CreateSlotRequest(
            request_id=request_id,
            resource_config=pb.ResourceConfig(memory_in_megabytes=memory_mb),
        )
        try:
            reply = await self._stub.CreateSlot(request, timeout=CREATE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _failure("CreateSlot", error) from None
        _check("CreateSlot", reply.status, reply.error_message)
        if not reply.slot.id:
            raise PlatformError("CreateSlot answered Ok without a slot", retry=True)
        return str(reply.slot.id)

    async def init(self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta) -> None:
        """Starts the app in the slot; returns when it runs."""
        request = pb.InitRequest(
            request_id=request_id, slot_id=slot_id, instance_id=instance_id, meta_data=meta
        )
        try:
            reply = await self._stub.Init(request, timeout=INIT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _failure("Init", error) from None
        _check("Init", reply.status, reply.error_message)

    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None:
        """Gives the slot back. A slot that the platform no longer knows counts as given back."""
        request = pb.DestroySlotRequest(request_id=request_id, id=slot_id, reason=reason)
        try:
            reply = await self._stub.DestroySlot(request, timeout=DESTROY_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return
            raise _failure("DestroySlot", error) from None
        if reply.status != pb.NotFound:
            _check("DestroySlot", reply.status, reply.error_message)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close(None)


def _failure(call: str, error: grpc.aio.AioRpcError) -> PlatformError:
    code = error.code()
    details = " ".join((error.details() or "").split())
    hopeless = code in _HOPELESS
    return PlatformError(
        f"{call} failed: {code.name}: {details}"[:300],
        retry=not hopeless,
        in_doubt=not hopeless,
        unreachable=code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED),
    )


def _check(call: str, status: int, message: str) -> None:
    if status != pb.Ok:
        name = pb.Status.Name(status) if status in pb.Status.values() else str(status)
        raise PlatformError(
            f"{call} answered {name}: {' '.join(message.split())}"[:300],
            retry=status in (pb.Throttle, pb.InternalError),
        )
