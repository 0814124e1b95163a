"""The load's reader takes a reply however gRPC cuts it."""

from __future__ import annotations

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.flood import DATA, END_HEADERS, END_STREAM, HEADERS, Flood, frame
from warmscaler.service.proto import scaler_pb2 as pb

ASSIGNED = pb.AssignReply(
    status=pb.Ok,
    assigment=pb.Assignment(request_id="r1", meta_key="app-0", instance_id="e7fea797-664"),
)


class Nowhere:
    """A transport."""

    def write(self, data: bytes) -> None:
        """Sends nothing."""


def replied(stream: int, *parts: bytes) -> bytes:
    """With a message in so many frames."""
    data = b"".join(frame(DATA, 0, stream, part) for part in parts)
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"")
    return frame(HEADERS, END_HEADERS, stream, b"\x88") + data + trailers


@given(data=st.data())
def test_a_reply_in_several_frames_and_reads_is_one(data: st.DataObject) -> None:
    message = ASSIGNED.SerializeToString()
    framed = b"\x00" + len(message).to_bytes(4) + message
    cut = data.draw(st.integers(0, len(framed)))
    came = replied(1, framed[:cut], framed[cut:])
    read = data.draw(st.integers(0, len(came)))

    async def receive() -> Flood:
        flood = Flood(apps=1, deadline_ms=10_000)
        flood.connection_made(cast(asyncio.Transport, Nowhere()))
        closed = asyncio.create_task(flood.closed(1, 0.0))
        await asyncio.sleep(0.01)  # its stretch is over, and its request under way
        flood.data_received(came[:read])
        flood.data_received(came[read:])
        flood.data_received(replied(3, bytes(5)))  # of its Idle
        await closed
        return flood

    seen = asyncio.run(receive()).seen
    assert seen.outcomes["accepted"] == 1
    assert seen.idles_again == 0
