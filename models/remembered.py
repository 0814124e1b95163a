"""What one app's places have seen online, as bytes for a file, and back.

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
"""Idle times kept per place, the latest: older ones hardly weigh."""
MOST_PLACES = 24
"""The lowest; those above learn anew, or from the model."""
_HEAD = struct.Struct("<BBd")
_PLACE = struct.Struct("<Hdd")


@dataclass(frozen=True, slots=True)
class PlaceSeen:
    """One place. Times in ms."""

    covered_ms: float
    """As in `PlaceHabits`; below 0 where it was never in use."""
    excess_ms: float
    gaps_ms: Sequence[float]
    """Idle times, oldest first; kept with 24 bits."""
    lefts_ms: Sequence[float]
    """When each began, since the epoch."""


def pack(crowd: float, places: Sequence[PlaceSeen]) -> bytes:
    """At most about 37 kB."""
    parts = [_HEAD.pack(FORMAT, min(len(places), MOST_PLACES), crowd)]
    for place in places[:MOST_PLACES]:
        gaps, lefts = place.gaps_ms[-MOST_GAPS:], place.lefts_ms[-MOST_GAPS:]
        parts.append(_PLACE.pack(len(gaps), place.covered_ms, place.excess_ms))
        parts += [_little("f", gaps).tobytes(), _little("d", lefts).tobytes()]
    content = b"".join(parts)
    return content + zlib.crc32(content).to_bytes(4, "little")


def unpack(data: bytes) -> tuple[float, list[PlaceSeen]]:
    """The inverse of `pack`. Raises ValueError for anything that it could not have made."""
    content = data[:-4]
    if zlib.crc32(content) != int.from_bytes(data[-4:], "little"):
        raise ValueError("is damaged")
    try:
        version, count, crowd = _HEAD.unpack_from(content)
        if version != FORMAT or count > MOST_PLACES:
            raise ValueError(f"has format {version}, {FORMAT} is known")
        position = _HEAD.size
        places = []
        for _ in range(count):
            gaps_count, covered_ms, excess_ms = _PLACE.unpack_from(content, position)
            position += _PLACE.size
            gaps, position = _read(content, position, "f", gaps_count)
            lefts, position = _read(content, position, "d", gaps_count)
            places.append(PlaceSeen(covered_ms, excess_ms, gaps, lefts))
    except struct.error:
        raise ValueError("is too short") from None
    numbers = [crowd]
    for place in places:
        numbers += [place.covered_ms + 1.0, place.excess_ms, *place.gaps_ms, *place.lefts_ms]
    if position != len(content) or not all(isfinite(each) and each >= 0.0 for each in numbers):
        raise ValueError("has numbers that cannot be")
    return crowd, places


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
