"""Counts kept on the event loop, without a lock: a histogram, and the busiest apps."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from warmscaler.service.observability.logs import escaped

LABEL_LENGTH = 64


def app_label(key: str) -> str:
    """An app's key as a label's value: itself where it is short and plain, else what can be shown of
    it and a checksum of all of it, so that two keys are never one label."""
    if len(key) <= LABEL_LENGTH and key.isprintable() and "#" not in key and "\\" not in key:
        return key
    # A checksum's mark is in no key that stands as it is, nor is what an escape begins with.
    return f"{escaped(key, LABEL_LENGTH)}#{sha256(key.encode(errors='replace')).hexdigest()[:16]}"


class Histogram:
    """Counts of seconds by bucket."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the buckets' upper ends, in seconds, in order."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """As one sample set of `family`."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip(
            (*map(floatToGoString, self._bounds), "+Inf"), self._counts, strict=True
        ):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, self._sum)


class TopApps:
    """The apps with the most requests, as many as asked for: a space-saving sketch of bounded size
    (Metwally et al., ICDT 2005). A count is too high by at most that of the app it replaced."""

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self._size = 8 * shown
        self._counts: dict[str, int] = {}

    def add(self, key: str) -> None:
        counts = self._counts
        if key in counts:
            counts[key] += 1
        elif len(counts) < self._size:
            counts[key] = 1
        else:
            least = min(counts, key=counts.__getitem__)
            counts[key] = counts.pop(least) + 1

    def top(self) -> list[tuple[str, int]]:
        return Counter(self._counts).most_common(self._shown)
