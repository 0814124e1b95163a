"""What a hostile caller sends: mutated protobuf, random bytes, HTTP/2 that is not quite."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

from warmscaler.service.proto import scaler_pb2 as pb

ASSIGN, IDLE = "/serverless.simulator.Scaler/Assign", "/serverless.simulator.Scaler/Idle"
METHODS: Sequence[tuple[str, float]] = (
    (ASSIGN, 0.5),
    (IDLE, 0.3),
    ("/grpc.health.v1.Health/Check", 0.1),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", 0.05),
    ("/serverless.simulator.Scaler/Nothing", 0.05),
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NUMBERS = (0, 1, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
_TEXTS = ("", "app", "\x00", "../../etc/passwd", "a\nb", '"} 1\n', "%s%n", "\u202e", "é" * 40)


def payload(random: Random) -> bytes:
    """A request of the service's, sound or mutated."""
    content = _assign(random) if random.random() < 0.6 else _idle(random)
    kind = random.random()
    if kind < 0.35:
        return content
    if kind < 0.5:
        return content + field(random)
    return mutated(random, content)


def mutated(random: Random, content: bytes) -> bytes:
    """`content` with some of its bytes changed, cut, doubled, put in or replaced."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        to = min(len(data), at + random.randint(1, 16))
        kind = random.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[at:to]
        elif kind == 2:
            data[at:at] = random.randbytes(random.randint(1, 32))
        elif kind == 3:
            data[at:at] = data[at:to]
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            data[at:at] = b"\xff" * random.randint(1, 11)  # a varint that does not end
        else:
            data[at:at] = field(random)
    return bytes(data)


def field(random: Random) -> bytes:
    """A field of any number and wire type, its length right or wrong."""
    number, wire_type = random.choice((1, 2, 3, 4, 5, 99, 2**28)), random.randrange(8)
    tag = _varint(number << 3 | wire_type)
    if wire_type == 2:
        body = random.randbytes(random.randint(0, 64))
        length = len(body) if random.random() < 0.7 else random.choice(_NUMBERS)
        return tag + _varint(length) + body
    return tag + random.choice((_varint(random.choice(_NUMBERS)), random.randbytes(8)))


def raw(random: Random) -> bytes:
    """Bytes of no protocol, or of another one."""
    kind = random.randrange(6)
    if kind == 0:
        return b"GET /" + random.randbytes(16) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    if kind == 1:
        return b"\x16\x03\x01" + random.randbytes(random.randint(1, 600))  # as TLS begins
    if kind == 2:
        return mutated(random, PREFACE)
    if kind == 3:
        return PREFACE + random.randbytes(random.randint(1, 2_000))
    return random.randbytes(random.randint(1, 4_096))


def frame(random: Random, stream: int) -> bytes:
    """An HTTP/2 frame, near enough to a sound one to get past the first checks."""
    kind = random.randrange(10)
    if kind <= 2:
        return request(random, stream)
    if kind == 3:  # window updates that overflow or are 0
        return _frame(
            8, 0, random.choice((0, stream)), struct.pack(">I", random.choice(_NUMBERS) % 2**31)
        )
    if kind == 4:
        return _frame(3, 0, stream, random.randbytes(4))  # RST_STREAM
    if kind == 5:
        return _frame(6, random.randrange(2), 0, random.randbytes(random.choice((8, 8, 7))))
    if kind == 6:  # settings
        pairs = [
            struct.pack(
                ">HI", random.choice((1, 2, 3, 4, 5, 6, 99)), random.choice(_NUMBERS) % 2**32
            )
            for _ in range(random.randint(0, 4))
        ]
        return _frame(4, 0, 0, b"".join(pairs))
    if kind == 7:  # a header block that goes on
        return _frame(random.choice((1, 9)), 0, stream, random.randbytes(random.randint(0, 200)))
    body = random.randbytes(random.randint(0, 300))
    length = len(body) if kind == 8 else random.choice((0, 1, 16_384, 2**24 - 1))
    head = struct.pack(">I", length)[1:] + random.randbytes(2)
    return head + struct.pack(">I", random.choice((0, stream, 2**31))) + body


def request(random: Random, stream: int) -> bytes:
    """HEADERS and DATA of a call, one of the two usually spoilt."""
    names = {
        ":method": "POST",
        ":scheme": "http",
        ":path": random.choice((ASSIGN, IDLE, "/", "*", "/\xff")),
        ":authority": "localhost",
        "content-type": random.choice(("application/grpc", "text/html")),
        "te": "trailers",
        "grpc-timeout": random.choice(("1S", "0n", "99999999H", "x")),
        "grpc-encoding": random.choice(("identity", "gzip", "none-such")),
    }
    block = b"".join(
        b"\x00"
        + bytes((len(name),))
        + name.encode()
        + bytes((len(value),))
        + value.encode("latin-1")
        for name, value in names.items()
    )
    content = mutated(random, _idle(random))
    length = len(content) if random.random() < 0.7 else random.choice((0, 2**20 + 1, 2**32 - 1))
    data = bytes((random.choice((0, 0, 0, 1, 7)),)) + struct.pack(">I", length) + content
    if random.random() < 0.5:
        block = mutated(random, block)
    return _frame(1, 4, stream, block) + _frame(0, random.randrange(2), stream, data)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return (
        struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body
    )


def _text(random: Random) -> str:
    if random.random() < 0.9:
        return random.choice(_TEXTS)
    return "".join(chr(random.randrange(1, 0xD800)) for _ in range(random.randint(1, 200)))


def _assign(random: Random) -> bytes:
    key = f"app-{random.randrange(64)}" if random.random() < 0.9 else _text(random)
    memory_mb = 128 if random.random() < 0.9 else random.choice(_NUMBERS)
    meta = pb.Meta(key=key, runtime=_text(random), timeout_in_secs=1, memory_in_mb=memory_mb)
    return pb.AssignRequest(
        request_id=_text(random), timestamp=random.choice(_NUMBERS), meta_data=meta
    ).SerializeToString()


def _idle(random: Random) -> bytes:
    return pb.IdleRequest(
        assigment=pb.Assignment(
            request_id=_text(random),
            meta_key=f"app-{random.randrange(64)}",
            instance_id=_text(random),
        ),
        result=pb.Result(
            status_code=random.randint(-(2**31), 2**31 - 1),
            duration_in_ms=random.choice(_NUMBERS),
            need_destroy=random.random() < 0.5,
            reason=_text(random),
        ),
    ).SerializeToString()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
