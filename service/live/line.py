"""One connection to the platform, and whether anybody is at its other end."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import grpc
import grpc.aio

from warmscaler.service.address import DIRECT
from warmscaler.service.proto.scaler_pb2_grpc import PlatformStub

log = logging.getLogger("scaler")

PROBE_S = 5.0
"""For so long an answer to the health check is waited for."""
STALL_S = 1.0
"""A wait that took so much longer says that this process stood still: nothing is known by it."""
_PROBE = "/grpc.health.v1.Health/Check"
CHANNEL_OPTIONS = [
    DIRECT,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Else channels to one address share a connection, and a new one would be the old one.
    ("grpc.use_local_subchannel_pool", 1),
]


class Line:
    """A channel of its own connection, and the calls that wait for an answer over it."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        self.stub: Any = PlatformStub(self.channel)  # type: ignore[no-untyped-call]
        self.given_up = False
        self._waiting: set[Any] = set()
        """The calls without an answer."""
        self._silent_since_s: float | None = None
        """When the first of them began to which nothing came, nor to any after it, even if it is
        waited for no more."""

    @property
    def waits(self) -> bool:
        """A call has no answer yet."""
        return bool(self._waiting)

    def began(self, call: Any) -> None:
        """It is sent."""
        self._waiting.add(call)
        if self._silent_since_s is None:
            self._silent_since_s = time.monotonic()

    def ended(self, call: Any) -> None:
        """Nobody waits for its answer any more."""
        self._waiting.discard(call)

    def heard(self, call: Any = None) -> None:
        """Something came from the other end, the answer to `call` or another."""
        self._waiting.discard(call)
        self._silent_since_s = time.monotonic() if self._waiting else None

    def silent_s(self) -> float:
        """For how long calls have waited and nothing came, to whatever call."""
        since_s = self._silent_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def give_up(self) -> None:
        """Its calls have failed."""
        self.given_up = True
        for call in list(self._waiting):
            call.cancel()


async def is_silent(line: Line, *, answer_wanted: bool = False) -> bool:
    """Whether a health check gets no answer at all: that there is no such check is one. A
    connection that is known to be down is not silent, unless an answer is wanted."""
    check = line.channel.unary_unary(_PROBE, request_serializer=None, response_deserializer=None)
    for _ in range(3):
        call = check(b"", timeout=10.0 * PROBE_S)
        asked = asyncio.ensure_future(call.code())
        began_s = time.monotonic()
        await asyncio.wait({asked}, timeout=PROBE_S)
        if asked.done():
            down = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return answer_wanted and asked.result() in down
        asked.cancel()
        call.cancel()
        if time.monotonic() - began_s < PROBE_S + STALL_S:
            return True
    return False
