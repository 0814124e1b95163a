"""Header blocks: HPACK (RFC 7541) in, and what makes a request malformed (RFC 9113, 8.2 and 8.3).

Blocks come in by the `hpack` package. One that was seen before and changed no table, which is what a
caller sends for all calls of a method, is looked up. Ours go out as literals that touch no table:
they are the same bytes for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError

from warmscaler.service.front.http2.frames import ErrorCode, Violation

Fields = list[tuple[bytes, bytes]]
T = TypeVar("T")

MAX_FIELDS_BYTES = 1 << 14
"""Of one block, as RFC 9113, 6.5.2 counts them."""
TABLE_BYTES = 4_096
_KEPT_BLOCKS = 32
_KEPT_BYTES = 512
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_OF_CONNECTIONS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


class Blocks(Generic[T]):
    """Reads the header blocks of one peer; `interpret` says what the fields of a request mean."""

    __slots__ = ("_decoder", "_interpret", "_seen", "known")

    def __init__(self, interpret: Callable[[Fields], T]) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_FIELDS_BYTES)
        self._interpret = interpret
        self._seen: dict[bytes, T] = {}
        self.known = self._seen.get
        """What the block of a request means, if it was seen before."""

    def request(self, block: bytes) -> T:
        """What the block of a request means. Raises Violation."""
        known = self._seen.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        before = (table.dynamic_entries[0] if table.dynamic_entries else None, table.maxsize)
        meaning = self._interpret(self.fields(block))
        after = table.dynamic_entries[0] if table.dynamic_entries else None
        if after is not before[0] or table.maxsize != before[1]:
            self._seen.clear()
        elif len(block) <= _KEPT_BYTES:
            if len(self._seen) >= _KEPT_BLOCKS:
                self._seen.clear()
            self._seen[block] = meaning
        return meaning

    def fields(self, block: bytes) -> Fields:
        """All fields of a block, in order. Raises Violation."""
        try:
            return [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError:
            raise Violation(ErrorCode.ENHANCE_YOUR_CALM, "too many header bytes") from None
        except (HPACKError, UnicodeError, ValueError, IndexError):
            raise Violation(ErrorCode.COMPRESSION_ERROR, "not a header block") from None

    def trailers(self, block: bytes) -> bool:
        """Reads trailers; whether they are well formed. Raises Violation."""
        # Reading may change the table: what a block meant before it no longer need mean.
        self._seen.clear()
        return all(_is_field(name, value) for name, value in self.fields(block))


def is_well_formed(fields: Fields) -> bool:
    """Whether these are the header fields of a request."""
    pseudo = set()
    for at, (name, value) in enumerate(fields):
        if name[:1] != b":":
            if not all(_is_field(*each) for each in fields[at:]):
                return False
            break
        if name not in _PSEUDO or name in pseudo or _BAD_VALUE.search(value):
            return False
        if not value and name in _NEEDED:
            return False
        pseudo.add(name)
    return pseudo >= _NEEDED


def _is_field(name: bytes, value: bytes) -> bool:
    if _NAME.fullmatch(name) is None or _BAD_VALUE.search(value) or name in _OF_CONNECTIONS:
        return False
    return name != b"te" or value == b"trailers"


def literals(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block that reads and changes no table (RFC 7541, 6.2.2)."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(content: bytes) -> bytes:
    length = len(content)
    if length < 127:
        return bytes((length,)) + content
    prefix, rest = bytearray((127,)), length - 127
    while rest > 127:
        prefix.append(rest & 127 | 128)
        rest >>= 7
    prefix.append(rest)
    return bytes(prefix) + content
