"""Callers that keep their connection alive by pings (RFC 9113, section 6.7)."""

from __future__ import annotations

import asyncio

import pytest

from tests.fuzz.messages import ASSIGN, PREFACE
from tests.service.running import PATIENCE_S, assign, served
from tests.service.test_health import frame
from warmscaler.service.proto import scaler_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")

DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
PINGS = 30


def test_a_caller_that_pings_while_it_waits_gets_its_answer() -> None:
    """gRPC's servers end the connection of who pings more often than once in five minutes."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": ASSIGN,
        ":authority": "scaler",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    packed = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    message = assign().SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message

    async def run() -> tuple[int, pb.AssignReply]:
        async with served(create_ms=700.0) as here, asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            writer.write(PREFACE + frame(SETTINGS, 0, 0, b""))
            writer.write(frame(HEADERS, 4, 1, packed) + frame(DATA, 1, 1, body))
            writer.writelines(frame(PING, 0, 0, n.to_bytes(8, "big")) for n in range(PINGS))
            answered = 0
            while True:
                head = await reader.readexactly(9)
                content = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                assert kind != GOAWAY, content
                answered += kind == PING and flags & 1
                if kind == DATA and content:
                    writer.close()
                    return answered, pb.AssignReply.FromString(content[5:])

    answered, reply = asyncio.run(run())
    assert answered == PINGS
    assert reply.assigment.instance_id
