"""What the headers of a request mean to gRPC, and the headers of its answers.

After gRPC's "PROTOCOL-HTTP2" (Requests, Responses, Errors) and "Status codes and their use in gRPC".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Protocol, Self, TypeVar

from warmscaler.service.front.http2.headers import Fields, is_well_formed, literals, too_large


class Code(IntEnum):
    """How a call ended."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Method(Protocol):
    """What the machine must know of a method."""

    @property
    def unary(self) -> bool:
        """Whether a call of it has exactly one message, and one answer."""

    @property
    def at_once(self) -> Callable[[bytes], bytes | None] | None:
        """Answers a message where that needs nothing else; None, and nothing has happened, where it
        does."""

    @property
    def refusable(self) -> bool:
        """Whether a call of it may be refused where there are too many."""

    @property
    def take_back(self) -> Callable[[bytes], None] | None:
        """Told of an answer whose caller had cancelled before it came."""


M = TypeVar("M", bound=Method)

_STATUS_200 = b"\x88"  # RFC 7541, appendix A
RESPONSE = _STATUS_200 + literals([(b"content-type", b"application/grpc")])
DONE = literals([(b"grpc-status", b"0")])
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_GRPC = re.compile(rb"application/grpc([+;].*)?", re.IGNORECASE)
_NOT_PLAIN = re.compile(rb"[^ -$&-~]")
_TEXT_BYTES = 1_024
NOT_GRPC = b"gRPC is served here: POST with content-type application/grpc\n"


@dataclass(slots=True)
class Request(Generic[M]):
    """The headers of a call."""

    method: M | None
    """None where `refusal` says why."""
    timeout_s: float | None = None
    gzip: bool = False
    """Whether messages may come compressed."""
    content_length: int | None = None
    traceparent: str = ""
    refusal: bytes | None = None
    """The header block to answer with, if no method needs to be asked."""
    content: bytes | None = None
    """What follows `refusal` where it is answered as HTTP does, once all of it came."""

    def with_timeout(self, timeout: bytes) -> Self | None:
        """See Meaning."""
        found = _TIMEOUT.fullmatch(timeout)
        if found is None or self.refusal is not None:
            return None
        timeout_s = int(found[1]) * _SECONDS[found[2]]
        return type(self)(self.method, timeout_s, self.gzip, self.content_length, self.traceparent)


def trailers(code: Code, text: str = "") -> bytes:
    """The block that ends a call whose headers were sent."""
    fields = [(b"grpc-status", b"%d" % code)]
    if text:
        plain = text.encode("utf-8", "replace")[:_TEXT_BYTES]
        encoded = _NOT_PLAIN.sub(lambda found: b"%%%02X" % found[0][0], plain)
        fields.append((b"grpc-message", encoded))
    return literals(fields)


def failure(code: Code, text: str) -> bytes:
    """The block that is the whole answer of a call that failed."""
    return RESPONSE + trailers(code, text)


def interpret(fields: Fields, methods: Mapping[bytes, M]) -> Request[M] | None:
    """What a request asks for. None if it is malformed."""
    if not is_well_formed(fields):
        return None
    first = dict(reversed(fields))
    length = first.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 19):
        return None
    method = methods.get(first[b":path"])
    timeout_s, timeout = None, first.get(b"grpc-timeout")
    if timeout is not None and (found := _TIMEOUT.fullmatch(timeout)):
        timeout_s = int(found[1]) * _SECONDS[found[2]]
    encoding = first.get(b"grpc-encoding", b"identity")
    refusal = None
    kind = _GRPC.fullmatch(first.get(b"content-type", b""))
    is_grpc = kind is not None and first[b":method"] == b"POST"
    if first[b":method"] != b"POST":
        refusal = literals([(b":status", b"405"), (b"allow", b"POST")])
    elif not is_grpc:
        refusal = literals([(b":status", b"415")])
    elif too_large(fields):
        refusal = failure(Code.RESOURCE_EXHAUSTED, "over 16 kB of metadata")
    elif method is None:
        refusal = failure(Code.UNIMPLEMENTED, "there is no such method")
    elif timeout is not None and timeout_s is None:
        refusal = failure(Code.INTERNAL, "grpc-timeout is malformed")
    elif encoding not in (b"identity", b"gzip"):
        accepted = literals([(b"grpc-accept-encoding", b"identity,gzip")])
        refusal = failure(Code.UNIMPLEMENTED, "grpc-encoding is not known") + accepted
    return Request(
        method if refusal is None else None,
        timeout_s,
        encoding == b"gzip",
        None if length is None else int(length),
        first.get(b"traceparent", b"").decode("ascii", "replace"),
        refusal,
        None if is_grpc else b"" if first[b":method"] == b"HEAD" else NOT_GRPC,
    )
