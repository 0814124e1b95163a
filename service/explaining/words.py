"""An account in sentences."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from math import inf

from warmscaler.models.outlook import Due
from warmscaler.service.explaining.account import AppAccount
from warmscaler.service.explaining.history import ColdStart

_CAUSES = {
    "first": "the app was not known before",
    "released": "no instance was kept",
    "busy": "every instance was serving another request",
    "starting": "an instance was on its way already",
}


def sentences(account: AppAccount) -> list[str]:
    """What there is to say, the most urgent first; each a sentence. Times are UTC."""
    return [
        _state(account),
        *_until(account),
        *_expected(account),
        _costs(account),
        *(_cold_start(each) for each in reversed(account.cold_starts)),
    ]


def _state(account: AppAccount) -> str:
    waits = f"; {account.waiting} requests wait" if account.waiting else ""
    if not account.is_up:
        return (
            f"{account.key} is down{waits}: the policy {account.outlook.rule}, and a start would"
            f" take {_span(account.start_ms)}."
        )
    states = Counter(each.state for each in account.instances)
    counted = ", ".join(f"{count} {state}" for state, count in states.items())
    return f"{account.key} is up, {counted}{waits}: the policy {account.outlook.rule}."


def _until(account: AppAccount) -> list[str]:
    said = []
    for each in account.instances:
        if each.state == "idle" and each.until_ms < inf:
            said.append(
                f"Instance {each.id} is idle since {clock(each.since_ms)} and is kept until"
                f" {clock(each.until_ms)}, {_span(each.until_ms - account.now_ms)} from now,"
                " if no request comes."
            )
    if account.outlook.start_ms < inf:
        said.append(
            f"An instance is pre-warmed at {clock(account.outlook.start_ms)},"
            f" {_span(account.outlook.start_ms - account.now_ms)} from now, if no request comes."
        )
    return said


def _expected(account: AppAccount) -> list[str]:
    expected = account.outlook.expected
    if expected is None:
        return []
    past = f"{expected.idle_times} idle times"
    if expected.due is None:
        return [
            f"Nothing is expected: of {past} none was longer than the"
            f" {_span(account.now_ms - expected.since_ms)} since the last use."
        ]
    middle_ms = expected.by_ms[len(expected.by_ms) // 2]
    half = f"; as likely as not by {clock(middle_ms)}" if middle_ms < inf else ""
    return [
        f"Next use: {_due(expected.due)}, {expected.due.share:.0%} of the {expected.longer} of"
        f" {past} that were longer than the {_span(account.now_ms - expected.since_ms)} so"
        f" far{half}."
    ]


def _due(due: Due) -> str:
    if due.to_ms - due.from_ms < 1_000.0:
        return f"due at {clock(due.from_ms)}"
    return f"due from {clock(due.from_ms)} to {clock(due.to_ms)}"


def _costs(account: AppAccount) -> str:
    share = account.cold / account.requests if account.requests else 0.0
    return (
        f"Seen so far: {account.requests:,} request{'s' * (account.requests != 1)},"
        f" {account.cold:,} without an idle instance"
        f" ({share:.1%}), {_span(account.waited_ms)} waited in all;"
        f" {account.wasted_gb_s:,.2f} GB·s idle or starting."
    )


def _cold_start(cold: ColdStart) -> str:
    quiet = "" if cold.idle_ms is None else f", after {_span(cold.idle_ms)} without a request"
    released = "" if cold.released is None else f" ({cold.released})"
    return (
        f"{clock(cold.arrival_ms)}: a request waited {_span(cold.waited_ms)}{quiet}:"
        f" {_CAUSES.get(cold.cause, cold.cause)}{released}."
    )


def clock(ms: float) -> str:
    """A time of day with the date: 2026-11-23 09:00:00.250."""
    at = datetime.fromtimestamp(ms / 1_000.0, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1_000:03d}"


def _span(ms: float) -> str:
    seconds = max(ms, 0.0) / 1_000.0
    if seconds < 1.0:
        return f"{1_000.0 * seconds:.0f} ms"
    if seconds < 120.0:
        return f"{seconds:.1f} s"
    if seconds < 7_200.0:
        return f"{seconds / 60.0:.1f} min"
    return f"{seconds / 3_600.0:.1f} h"
