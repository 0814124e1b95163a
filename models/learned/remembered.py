"""What one app's levels have seen online, as bytes for a file, and back.

Bytes come from a disk: they are checked in full, and mean numbers only.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from sys import byteorder

FORMAT = 1
MOST_GAPS = 128
"""Idle times kept per level, the latest: older ones hardly weigh."""
MOST_LEVELS = 24
"""The lowest; those above learn anew, or from the model."""
_HEAD = struct.Struct("<BBd")
_LEVEL = struct.Struct("<Hdd")


@dataclass(frozen=True, slots=True)
class LevelSeen:
    """One level. Times in ms."""

    covered_ms: float
    """As in `LevelHabits`; below 0 where it was never in use."""
    excess_ms: float
    gaps_ms: Sequence[float]
    """Idle times, oldest first; kept with 24 bits."""
    lefts_ms: Sequence[float]
    """When each began, since the epoch."""


def pack(crowd: float, levels: Sequence[LevelSeen]) -> bytes:
    """At most about 37 kB."""
    parts = [_HEAD.pack(FORMAT, min(len(levels), MOST_LEVELS), crowd)]
    for level in levels[:MOST_LEVELS]:
        gaps, lefts = level.gaps_ms[-MOST_GAPS:], level.lefts_ms[-MOST_GAPS:]
        parts.append(_LEVEL.pack(len(gaps), level.covered_ms, level.excess_ms))
        parts += [_little("f", gaps).tobytes(), _little("d", lefts).tobytes()]
    content = b"".join(parts)
    return content + zlib.crc32(content).to_bytes(4, "little")


def unpack(data: bytes) -> tuple[float, list[LevelSeen]]:
    """The inverse of `pack`. Raises ValueError for anything that it could not have made."""
    content = data[:-4]
    if zlib.crc32(content) != int.from_bytes(data[-4:], "little"):
        raise ValueError("is damaged")
    try:
        version, count, crowd = _HEAD.unpack_from(content)
        if version != FORMAT or count > MOST_LEVELS:
            raise ValueError(f"has format {version}, {FORMAT} is known")
        position = _HEAD.size
        levels = []
        for _ in range(count):
            gaps_count, covered_ms, excess_ms = _LEVEL.unpack_from(content, position)
            position += _LEVEL.size
            gaps, position = _read(content, position, "f", gaps_count)
            lefts, position = _read(content, position, "d", gaps_count)
            levels.append(LevelSeen(covered_ms, excess_ms, gaps, lefts))
    except struct.error:
        raise ValueError("is too short") from None
    numbers = [crowd]
    for level in levels:
        numbers += [level.covered_ms + 1.0, level.excess_ms, *level.gaps_ms, *level.lefts_ms]
    if position != len(content) or not all(isfinite(each) and each >= 0.0 for each in numbers):
        raise ValueError("has numbers that cannot be")
    return crowd, levels


def _read(content: bytes, position: int, kind: str, count: int) -> tuple[Sequence[float], int]:
    values = array(kind)
    end = position + count * values.itemsize
    if end > len(content):
        raise ValueError("is too short")
    values.frombytes(content[position:end])
    if byteorder == "big":
        values.byteswap()
    return values, end


def _little(kind: str, values: Sequence[float]) -> array[float]:
    packed = array(kind, values)
    if byteorder == "big":
        packed.byteswap()
    return packed
