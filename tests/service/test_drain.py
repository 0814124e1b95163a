"""GOAWAY: what a caller sent before it heard of it is answered, and its connection is not reset."""

from __future__ import annotations

import asyncio
import socket

from tests.service.running import assign, done, served, until
from tests.service.wire_bytes import HELLO, UNARY, echo, fields, kinds, machine, message
from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.frames import ErrorCode, frame, goaway
from warmscaler.service.front.http2.headers import literals
from warmscaler.service.front.own_transport import OwnTransport
from warmscaler.service.front.servicer import SERVICE
from warmscaler.service.front.transport import TransportKind

TOLD_TO_GO = frames.MAX_STREAM


def call(stream: int, path: str, content: bytes) -> bytes:
    block = literals([(name.encode(), value.encode()) for name, value in fields(path)])
    ends = frame(frames.DATA, frames.END_STREAM, stream, message(content))
    return frame(frames.HEADERS, frames.END_HEADERS, stream, block) + ends


def of_goaway(out: bytes) -> list[int]:
    """The last stream that each GOAWAY names."""
    said = [payload for kind, _, payload in kinds(out) if kind == frames.GOAWAY]
    assert all(payload[4:8] == bytes(4) for payload in said)
    return [int.from_bytes(payload[:4]) for payload in said]


def test_calls_under_way_are_heard_until_the_peer_knows() -> None:
    here = machine()
    echo(here, HELLO)
    here.http.drain(last=False)
    told = here.http.take()
    assert of_goaway(told) == [TOLD_TO_GO]
    [ping] = [payload for kind, _, payload in kinds(told) if kind == frames.PING]
    out = echo(here, call(1, UNARY, b"under way"))
    assert (frames.DATA, 1, message(b"under way")) in kinds(out)
    echo(here, frame(frames.PING, frames.ACK, 0, b"another."))
    assert not here.http.leaving
    assert of_goaway(echo(here, frame(frames.PING, frames.ACK, 0, ping))) == [1]
    assert here.http.leaving
    assert echo(here, call(3, UNARY, b"too late")) == b""
    here.http.drain(last=True)
    assert of_goaway(here.http.take()) == [1]  # it may not grow


def test_an_answer_to_no_ping_of_ours_ends_nothing() -> None:
    here = machine()
    echo(here, HELLO)
    assert echo(here, frame(frames.PING, frames.ACK, 0, b"draining")) == b""
    assert not here.http.leaving


def test_an_idle_that_meets_our_goaway_is_heard() -> None:
    """It is in the socket, unread, as the drain begins; and what comes after resets nothing."""

    async def run() -> None:
        async with served(transport=TransportKind.OWN) as here:
            assigned = await here.stub.Assign(assign("r1"))
            reader, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            writer.write(HELLO)
            await reader.readexactly(9)  # its SETTINGS: it reads
            await here.stub.Idle(done((await here.stub.Assign(assign("r2"))).assigment))
            idle = done(assigned.assigment).SerializeToString()
            writer.write(call(1, f"/{SERVICE}/Idle", idle))
            here.server._transport.drain()
            came = b""
            while frame(frames.PING, 0, 0, b"draining") not in came:
                came += await reader.read(1 << 16)
            writer.write(frame(frames.PING, frames.ACK, 0, b"draining"))
            came += await reader.read()  # to its end: it is not reset
            assert came.endswith(goaway(1, ErrorCode.NO_ERROR))
            assert message(b"") in came
            assert not here.server.driver.serving
            writer.write(call(3, f"/{SERVICE}/Assign", assign("r3").SerializeToString()))
            writer.close()

    asyncio.run(run())


def test_a_caller_that_has_just_gone_ends_no_drain() -> None:
    async def run() -> None:
        async with served(transport=TransportKind.OWN) as here:
            own = here.server._transport
            assert isinstance(own, OwnTransport)
            before = len(own._connections)
            gone = socket.create_connection(("127.0.0.1", here.server.port))
            gone.sendall(HELLO)
            await until(lambda: len(own._connections) > before)
            await asyncio.sleep(0.1)
            gone.recv(1 << 16)  # what is unread would reset it at once
            gone.close()  # our GOAWAY is answered by a reset, before we close our end
            own._tell_all(last=True)

    asyncio.run(run())
