"""Who of several may write: the holder of a Lease. The rules of client-go's leader election, without I/O.

Whoever sees the Lease unchanged for longer than it lasts takes it; clocks of others are not compared.
A holder that could not renew for a while stops writing before anybody else may begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

LASTS_S = 15.0
RENEW_S = 10.0
"""A holder that did not renew for so long holds it no more; less than LASTS_S."""
RETRY_S = 2.0


@dataclass(slots=True)
class Election:
    """Of one candidate. Times are of its own monotonic clock, in seconds."""

    identity: str
    _seen: tuple[str, str] | None = None
    """Holder and resourceVersion, as last seen."""
    _seen_s: float = 0.0
    _renewed_s: float = -float("inf")

    def leads(self, now_s: float) -> bool:
        """Whether it may write."""
        return now_s - self._renewed_s < RENEW_S

    def bid(
        self, lease: Mapping[str, Any] | None, now_s: float, wall_s: float
    ) -> dict[str, Any] | None:
        """The spec to write, of the Lease as it is (None: there is none); None is to wait."""
        spec: Mapping[str, Any] = {} if lease is None else lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if lease is not None:
            seen = (holder, lease["metadata"].get("resourceVersion", ""))
            if seen != self._seen:
                self._seen, self._seen_s = seen, now_s
        lasts_s = float(spec.get("leaseDurationSeconds") or LASTS_S)
        if holder not in ("", self.identity) and now_s - self._seen_s < lasts_s:
            return None
        moved = holder != self.identity
        at = _time(wall_s)
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(LASTS_S),
            "acquireTime": at if moved else spec.get("acquireTime", at),
            "renewTime": at,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (moved and bool(holder)),
        }

    def won(self, asked_s: float) -> None:
        """What was bid at `asked_s` is written."""
        self._renewed_s = asked_s

    def resign(self, lease: Mapping[str, Any] | None, wall_s: float) -> dict[str, Any] | None:
        """The spec to write so that another one need not wait; None where it is not ours."""
        self._renewed_s = -float("inf")
        spec: Mapping[str, Any] = {} if lease is None else lease.get("spec") or {}
        if spec.get("holderIdentity") != self.identity:
            return None
        return {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _time(wall_s)}


def _time(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
