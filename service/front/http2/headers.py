"""Header blocks: HPACK (RFC 7541) in, and what makes a request malformed (RFC 9113, 8.2 and 8.3).

Blocks come in by the `hpack` package. Callers are told to keep no table (SETTINGS_HEADER_TABLE_SIZE 0):
what they send for all calls of a method is then the same bytes each time, and is looked up; where only
`grpc-timeout` differs, all but its value is. Who keeps a table all the same, of 4,096 bytes at most, is
understood. Ours go out as literals that touch no table: they are the same bytes for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, Self, TypeVar

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.hpack import decode_integer, encode_integer
from hpack.huffman_table import decode_huffman

from warmscaler.service.front.http2.frames import ErrorCode, Violation

Fields = list[tuple[bytes, bytes]]

MAX_FIELDS_BYTES = 1 << 14
"""Of one block, as RFC 9113, 6.5.2 counts them. A call with more is refused, alone."""
MOST_FIELDS_BYTES = 1 << 16
"""Who sends more in a block loses the connection: it would have to be read to know what follows."""
TABLE_BYTES = 4_096
_STATIC = 61
"""Fields of the table that is the same for all."""
_KEPT_BLOCKS = 32
_KEPT_BYTES = 512
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_PER_HOP = frozenset(b"connection keep-alive proxy-connection transfer-encoding upgrade".split())


def too_large(fields: Fields) -> bool:
    """Whether these are more than MAX_FIELDS_BYTES."""
    return sum(len(name) + len(value) + 32 for name, value in fields) > MAX_FIELDS_BYTES


class Meaning(Protocol):
    """What the headers of a request mean."""

    def with_timeout(self, timeout: bytes) -> Self | None:
        """The same with this `grpc-timeout` instead; None where that takes a look at all of it."""


T = TypeVar("T", bound=Meaning)


class Blocks(Generic[T]):
    """Reads the header blocks of one peer; `interpret` says what the fields of a request mean."""

    __slots__ = ("_around", "_begins", "_decoder", "_interpret", "_seen", "known")

    def __init__(self, interpret: Callable[[Fields], T | None]) -> None:
        self._decoder = Decoder(max_header_list_size=MOST_FIELDS_BYTES)
        self._interpret = interpret
        self._seen: dict[bytes, T] = {}
        self.known = self._seen.get
        """What a block means that was seen before, to the byte; None of any other."""
        self._around: dict[tuple[bytes, bytes], T] = {}
        """The same by what stands before the value of `grpc-timeout`, and behind it."""
        self._begins: set[int] = set()
        """Where such values begin."""

    def known_but_for_timeout(self, block: bytes) -> T | None:
        """What a block means that was seen before with another `grpc-timeout`."""
        for begin in self._begins:
            if begin >= len(block):
                continue
            end = begin + 1 + (block[begin] & 0x7F)
            known = self._around.get((block[:begin], block[end:]))
            if known is not None and begin + 1 < end <= len(block):
                value = block[begin + 1 : end]
                try:
                    return known.with_timeout(_plain(value, coded=block[begin] > 0x7F))
                except HPACKError:
                    return None
        return None

    def request(self, block: bytes) -> T | None:
        """What the block of a request means, None if it is malformed. Raises Violation."""
        known = self._seen.get(block) or self.known_but_for_timeout(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        before = (table.dynamic_entries[0] if table.dynamic_entries else None, table.maxsize)
        meaning = self._interpret(self.fields(block))
        after = table.dynamic_entries[0] if table.dynamic_entries else None
        if after is not before[0] or table.maxsize != before[1]:
            self._forget()
        elif meaning is not None and len(block) <= _KEPT_BYTES:
            self._keep(block, meaning)
        return meaning

    def _keep(self, block: bytes, meaning: T) -> None:
        if len(self._seen) + len(self._around) >= _KEPT_BLOCKS:
            self._forget()
        begin = _timeout_at(block, keeps_table=self._decoder.header_table.maxsize > 0)
        if begin is None:
            self._seen[block] = meaning
        else:
            end = begin + 1 + (block[begin] & 0x7F)
            self._around[block[:begin], block[end:]] = meaning
            self._begins.add(begin)

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
        self._forget()
        return all(_is_field(name, value) for name, value in self.fields(block))

    def _forget(self) -> None:
        self._seen.clear()
        self._around.clear()
        self._begins.clear()


def _timeout_at(block: bytes, *, keeps_table: bool) -> int | None:
    """Where the value of `grpc-timeout` begins in a block that was read; None where it has none, or
    one that enters the table, which its next value would change."""
    at = 0
    while at < len(block):
        first = block[at]
        bits = 7 if first & 0x80 else 6 if first & 0x40 else 5 if first & 0x20 else 4
        index, length = decode_integer(block[at:], bits)
        at += length
        if bits == 5:  # a size of the table
            continue
        if index > _STATIC:  # who knows what it names
            return None
        if bits == 7:  # a whole field
            continue
        if not index:
            size, length = decode_integer(block[at:], 7)
            name = block[at + length : at + length + size]
            is_timeout = _plain(name, coded=block[at] > 0x7F) == b"grpc-timeout"
            at += length + size
            if is_timeout:
                enters = keeps_table and first & 0x40
                return None if enters or block[at] & 0x7F == 0x7F else at
        size, length = decode_integer(block[at:], 7)
        at += length + size
    return None


def _plain(content: bytes, *, coded: bool) -> bytes:
    return decode_huffman(content) if coded else content


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
    if _NAME.fullmatch(name) is None or _BAD_VALUE.search(value) or name in _PER_HOP:
        return False
    return name != b"te" or value == b"trailers"


def literals(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block that reads and changes no table (RFC 7541, 6.2.2)."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(content: bytes) -> bytes:
    return bytes(encode_integer(len(content), 7)) + content
