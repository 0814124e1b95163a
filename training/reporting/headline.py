"""The report's first figures: what learned costs against the baseline, the bad with the good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warmscaler.training.evaluating.evaluate import Measured, find
from warmscaler.training.evaluating.settings import LEARNED

GB_HOUR = 0.06
"""What a GB·h costs unless told: AWS Lambda's list price per GB·s (0.0000166667 USD), by the hour."""
_S_PER_H = 3_600.0


@dataclass(frozen=True, slots=True)
class Change:
    """One figure under the baseline and under learned; less is better."""

    name: str
    before: str
    after: str
    change: float | None
    """Relative; None where there was nothing before, and there is something now."""
    about: str

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `same`, by half a percent."""
        if self.change is None:
            return "worse"
        if abs(self.change) < 0.005:
            return "same"
        return "better" if self.change < 0.0 else "worse"

    @property
    def said(self) -> str:
        """The change in words."""
        if self.change is None:
            return "from nothing"
        if self.verdict == "same":
            return "as before"
        if -1.0 < self.change < -0.995:
            return "over 99% less"
        if self.change >= 1.0:
            return f"{1.0 + self.change:.1f} times"
        return f"{abs(self.change):.0%} {'less' if self.change < 0.0 else 'more'}"


def headline(measured: Sequence[Measured], baseline: str, gb_hour: float) -> list[Change]:
    """Memory, money, cold starts and waiting; empty where one of the two was not evaluated."""
    base, ours = find(measured, baseline), find(measured, LEARNED)
    if base is None or ours is None:
        return []
    a, b = base.figures, ours.figures
    requests = max(a.requests, 1)

    def queued(of: Measured) -> str:
        share = (of.figures.queued or 0) / requests
        return f"{share:.2%}"

    return [
        Change(
            "Memory wasted",
            f"{a.wasted_gb_s / _S_PER_H:,.1f}",
            f"{b.wasted_gb_s / _S_PER_H:,.1f} GB·h",
            _relative(a.wasted_gb_s, b.wasted_gb_s),
            "Held by instances that served no request: idle, or starting.",
        ),
        Change(
            "Money for instances",
            f"{a.slot_gb_s / _S_PER_H * gb_hour:,.2f}",
            f"{b.slot_gb_s / _S_PER_H * gb_hour:,.2f}",
            _relative(a.slot_gb_s, b.slot_gb_s),
            f"All memory held, executions too, at {gb_hour:g} a GB·h.",
        ),
        Change(
            "Cold starts",
            f"{a.cold_start_rate or 0.0:.2%}",
            f"{b.cold_start_rate or 0.0:.2%}",
            _relative(a.cold_starts or 0, b.cold_starts or 0),
            "Requests that found no idle instance. Of all requests"
            f" {queued(base)} → {queued(ours)} only queued for a busy one.",
        ),
        Change(
            "Waiting",
            f"{a.wait_s:,.0f}",
            f"{b.wait_s:,.0f} s",
            _relative(a.wait_s, b.wait_s),
            f"In all. On average {_mean_ms(base)} → {_mean_ms(ours)} ms a request;"
            f" 99 % wait at most {a.wait_p99_ms:,.0f} → {b.wait_p99_ms:,.0f} ms.",
        ),
    ]


def _mean_ms(of: Measured) -> str:
    return f"{1_000.0 * of.figures.wait_s / max(of.figures.requests, 1):,.1f}"


def _relative(before: float, after: float) -> float | None:
    if before > 0.0:
        return after / before - 1.0
    return None if after > 0.0 else 0.0
