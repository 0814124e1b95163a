"""Load that costs the machine little: gRPC calls as HTTP/2 frames made once and sent in bulk.

gRPC's own client in Python takes as much CPU for a call as the scaler does: on two cores it could
not send three times what the scaler can do. This one speaks just enough HTTP/2 (RFC 9113, RFC 7541
without a dynamic table) for unary calls on one connection, and reads of a reply's headers only
whether there was a message.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

from warmscaler.service.front.servicer import SERVICE
from warmscaler.service.proto import scaler_pb2 as pb

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = (1 << 31) - 1
FRAME = struct.Struct(">IBI")
"""What a frame begins with: its length (24 bits) and its kind as one number, flags, stream."""
TICK_S = 0.001
IDLE_AGAIN_S = 0.02
"""An Idle without an Ok is sent again after that: else its instance would be in use for ever."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def _literal(prefix: bytes, *texts: str) -> bytes:
    return prefix + b"".join(bytes((len(text),)) + text.encode() for text in texts)


def headers(method: str, timeout_ms: int | None) -> bytes:
    """The header block of a call."""
    block = b"\x83\x86"  # :method POST, :scheme http
    block += _literal(b"\x04", f"/{SERVICE}/{method}") + _literal(b"\x01", "scaler")
    block += _literal(b"\x0f\x10", "application/grpc") + _literal(b"\x00", "te", "trailers")
    if timeout_ms is not None:
        block += _literal(b"\x00", "grpc-timeout", f"{timeout_ms}m")
    return block


@dataclass(slots=True)
class Seen:
    """What came of the requests of one stretch of time."""

    sent: int = 0
    done: int = 0
    """Assigned within the deadline, and their Idle taken."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of Assign."""
    warm_s: list[float] = field(default_factory=list)
    """How long each Assign took that was answered with an instance that there was already."""
    idles_again: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Requests done a second."""
        return self.done / self.took_s

    def warm_ms(self, share: float) -> float:
        """The quantile of the time of a warm Assign; 0 where there was none."""
        ordered = sorted(self.warm_s)
        return 1_000.0 * ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


class Flood(asyncio.Protocol):
    """One connection. `closed` keeps so many requests under way, `open` sends so many a second."""

    def __init__(self, apps: int, deadline_ms: int, destroy_every: int = 0) -> None:
        """Of every so many Idles one says that its instance is bad; 0 is none."""
        self.seen = Seen()
        self.lost: str | None = None
        """Why the connection ended."""
        self._deadline_s = deadline_ms / 1_000.0
        self._assign = headers("Assign", deadline_ms)
        self._idle = headers("Idle", 20_000)
        metas = (
            pb.Meta(key=f"app-{n}", runtime="go", timeout_in_secs=60, memory_in_mb=128)
            for n in range(apps)
        )
        self._asked = [pb.AssignRequest(meta_data=each).SerializeToString() for each in metas]
        """One for each app, but for the request's id, which comes first: protobuf's fields may be
        joined as bytes."""
        self._destroy_every = destroy_every
        self._out: list[bytes] = []
        self._buffer = b""
        self._next = 1
        self._number = 0
        self._sent_s: dict[int, float] = {}
        """When each open Assign was sent, by its stream."""
        self._replies: dict[int, bytes] = {}
        self._idles: dict[int, tuple[pb.Assignment, bool]] = {}
        """Open Idles by their stream, and whether their request was in time."""
        self._known: set[str] = set()
        self._flushing = False
        self._received = 0
        """Bytes of DATA that the connection's window was not grown by yet."""
        self._again = False
        """Whether a request that ends is followed by another."""

    @property
    def under_way(self) -> int:
        """Calls without an answer."""
        return len(self._sent_s) + len(self._idles)

    async def closed(self, callers: int, duration_s: float) -> Seen:
        """So many callers, each with one request at a time."""
        before, began_s = time.process_time(), time.perf_counter()
        self.seen = seen = Seen()
        self._again = True
        for _ in range(callers):
            self._request()
        self._flush()
        await asyncio.sleep(duration_s)
        self._again = False
        seen.took_s = time.perf_counter() - began_s
        seen.cpu_s = time.process_time() - before
        counted = seen.done
        await self._quiet()
        seen.done = counted
        return seen

    async def open(self, rate: float, duration_s: float) -> Seen:
        """So many requests a second, whatever becomes of those before."""
        before, began_s = time.process_time(), time.perf_counter()
        self.seen = seen = Seen()
        self._again = False
        while (now_s := time.perf_counter() - began_s) < duration_s and self.lost is None:
            for _ in range(int(now_s * rate) - seen.sent):
                self._request()
            self._flush()
            await asyncio.sleep(TICK_S)
        seen.took_s = time.perf_counter() - began_s
        seen.cpu_s = time.process_time() - before
        return seen

    async def _quiet(self) -> None:
        async with asyncio.timeout(30.0):
            while self.under_way and self.lost is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def _request(self) -> None:
        self._number += 1
        self.seen.sent += 1
        self._sent_s[self._next] = time.perf_counter()
        request_id = b"r%d" % self._number
        asked = self._asked[self._number % len(self._asked)]
        self._call(self._assign, b"\x0a%c%b" % (len(request_id), request_id) + asked)

    def _call(self, block: bytes, message: bytes) -> None:
        stream, length = self._next, len(message)
        self._next += 2
        self._out += (
            FRAME.pack(len(block) << 8 | HEADERS, END_HEADERS, stream),
            block,
            FRAME.pack(length + 5 << 8 | DATA, END_STREAM, stream),
            b"\x00",
            length.to_bytes(4),
            message,
        )

    def _flush_soon(self) -> None:
        """Once for all that this turn of the loop has to say."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self.lost is None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _send_idle(self, assignment: pb.Assignment, in_time: bool) -> None:
        self._idles[self._next] = (assignment, in_time)
        bad = self._destroy_every > 0 and self._next // 2 % self._destroy_every == 0
        result = pb.Result(status_code=200, need_destroy=bad)
        request = pb.IdleRequest(assigment=assignment, result=result)
        self._call(self._idle, request.SerializeToString())

    def _send_idle_again(self, assignment: pb.Assignment, in_time: bool) -> None:
        self.seen.idles_again += 1
        self._send_idle(assignment, in_time)
        self._flush_soon()

    def _ended(self, stream: int, how: str) -> None:
        """`how` it ended where there is no message."""
        framed = self._replies.pop(stream, b"")
        reply = framed[5:] if framed else None
        if stream in self._idles:
            assignment, in_time = self._idles.pop(stream)
            if reply is None:
                loop = asyncio.get_running_loop()
                loop.call_later(IDLE_AGAIN_S, self._send_idle_again, assignment, in_time)
                return
            self.seen.done += in_time
        elif stream in self._sent_s:
            took_s = time.perf_counter() - self._sent_s.pop(stream)
            answer = pb.AssignReply() if reply is None else pb.AssignReply.FromString(reply)
            instance_id = answer.assigment.instance_id
            if instance_id:
                in_time = took_s <= self._deadline_s
                self.seen.outcomes["accepted" if in_time else "accepted too late"] += 1
                if instance_id in self._known:
                    self.seen.warm_s.append(took_s)
                self._known.add(instance_id)
                self._send_idle(answer.assigment, in_time)
                return
            self.seen.outcomes[how if reply is None else pb.Status.Name(answer.status)] += 1
        else:
            return
        if self._again:
            self._request()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        window = b"\x00\x04" + WINDOW.to_bytes(4)
        grow = frame(WINDOW_UPDATE, 0, 0, (WINDOW - 65_535).to_bytes(4))
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, window) + grow)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.lost or str(exc or "closed")

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        position, end = 0, len(buffer)
        while end - position >= 9:
            length, flags, stream = FRAME.unpack_from(buffer, position)
            length, kind = length >> 8, length & 0xFF
            if end - position < 9 + length:
                break
            payload = buffer[position + 9 : position + 9 + length]
            position += 9 + length
            if kind == DATA:  # a message may come in several, cut anywhere
                self._received += length
                self._replies[stream] = self._replies.get(stream, b"") + payload
            elif kind == RST_STREAM:
                self._ended(stream, "shed by gRPC")
            elif kind == SETTINGS and not flags & ACK:
                self._out.append(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._out.append(frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                self.lost = f"GOAWAY {payload[8:].decode(errors='replace')}"
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                self._ended(stream, "an error")
        self._buffer = buffer[position:]
        if self._received > WINDOW // 4:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4)))
            self._received = 0
        self._flush_soon()


async def connect(port: int, apps: int, deadline_ms: int, destroy_every: int = 0) -> Flood:
    """A connection to the scaler on this port of the loopback."""
    _, flood = await asyncio.get_running_loop().create_connection(
        lambda: Flood(apps, deadline_ms, destroy_every), "127.0.0.1", port
    )
    return flood
