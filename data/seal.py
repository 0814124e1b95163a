"""A seal: a CRC-32 of a whole file inside the file, for formats whose own sums nobody looks at.

It stands in the file's metadata as eight digits; the sum is of all bytes with zeros in their place.
A reader of Parquet may crash on a bit that is another, so the seal is looked at before it.
"""

from __future__ import annotations

import re
import zlib

BLANK = "scaler-crc32:00000000"
"""What a writer puts into the metadata, once, before `seal`."""
_SEAL = re.compile(rb"scaler-crc32:([0-9a-f]{8})")


def seal(content: bytes) -> bytes:
    """The file with its sum in the place of BLANK."""
    at = content.rindex(BLANK.encode()) + len(BLANK) - 8
    return content[:at] + b"%08x" % zlib.crc32(content) + content[at + 8 :]


def is_whole(content: bytes) -> bool | None:
    """Whether the file is what was sealed; None where it has no seal."""
    seals = list(_SEAL.finditer(content))
    if not seals:
        return None
    start, end = seals[-1].span(1)
    crc = zlib.crc32(content[end:], zlib.crc32(b"00000000", zlib.crc32(content[:start])))
    return crc == int(seals[-1][1], 16)
