"""gRPC's messages within what a call sends ("PROTOCOL-HTTP2", Length-Prefixed-Message)."""

from __future__ import annotations

import zlib

from warmscaler.service.front.http2.frames import PREFIX
from warmscaler.service.front.http2.requests import Code

_GZIP = 31


class Unreadable(Exception):
    """Why no message can be read, and how the call ends by it."""

    def __init__(self, code: Code, what: str) -> None:
        super().__init__(what)
        self.code = code


def end_of_first(buffer: bytearray, most: int, *, gzip: bool) -> int | None:
    """Where the first message ends, there or not; None where its length is not there yet. Raises
    Unreadable for one of over `most` bytes, and a compressed one without `gzip`."""
    if len(buffer) < PREFIX.size:
        return None
    compressed, length = PREFIX.unpack_from(buffer)
    if compressed > gzip:
        raise Unreadable(Code.INTERNAL, "a compressed message without grpc-encoding")
    if length > most:
        limit = f"a message of {length} bytes; the most is {most}"
        raise Unreadable(Code.RESOURCE_EXHAUSTED, limit)
    return PREFIX.size + int(length)


def first(buffer: bytearray, end: int, most: int) -> bytes:
    """The first message, which ends there. Raises Unreadable."""
    content = bytes(buffer[PREFIX.size : end])
    if not buffer[0]:
        return content
    inflate = zlib.decompressobj(_GZIP)
    try:
        message = inflate.decompress(content, most)
    except zlib.error:
        raise Unreadable(Code.INTERNAL, "a message that is not gzip") from None
    if inflate.unconsumed_tail:
        raise Unreadable(Code.RESOURCE_EXHAUSTED, "a message too long once inflated")
    if not inflate.eof:
        raise Unreadable(Code.INTERNAL, "a message that is not gzip")
    return message
