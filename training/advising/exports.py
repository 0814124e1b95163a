"""Advice in the words of platforms: Knative annotations, KEDA's ScaledObject, AWS scheduled scaling.

Field names and bounds after the projects' own pages: Knative "Configuring scale bounds" and "Scale to
zero", KEDA "ScaledObject specification" and "Cron", AWS Application Auto Scaling "PutScheduledAction"
with Lambda's provisioned concurrency. Nothing is called: it is data to be looked at and applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

from warmscaler.models.advised.file import VERSION, as_row
from warmscaler.models.advised.policy import HOURS, Clock
from warmscaler.training.advising.report import AppReport, Report, Saving

KNATIVE_MOST_S = 3_600
"""The longest scale-down-delay, and retention of the last pod, that Knative takes."""
KNATIVE_WINDOW_S = (6, 60)
"""The shortest window that it takes, and the one it has unless told: over a longer one the number of pods
would fall while the first of its requests are still in it."""
_KNATIVE = "autoscaling.knative.dev"
_NOT_IN_NAMES = re.compile(r"[:/|\x00-\x1f\x7f-\x9f]|^ +")
"""What the name of one of AWS's scheduled actions may not hold; it is unique for a function."""
_LONGEST = 200
_MINUTE_S = 60.0
_HOUR_S = 3_600.0
_DAY_S = 86_400.0


def as_json(report: Report, gb_hour: float | None) -> dict[str, Any]:
    """Everything, and what `advice:FILE` follows."""
    return {
        "advice_version": VERSION,
        "trace": report.trace,
        "price": report.price,
        "measured_price": report.measured_price,
        "today": report.today,
        "measured_from": report.split,
        "measured_hours": report.hours,
        "cost_ratio": report.cost_ratio,
        "saving": _saving(report.saving, gb_hour),
        "default": as_row(report.advice.default),
        "apps": [
            {
                "app": each.key,
                **as_row(each.advice),
                "least_seen_by_hour": list(each.least),
                "most_seen_by_hour": list(each.most),
                "requests": each.requests,
                "memory_mb": each.memory_mb,
                "saving": None if each.saving is None else _saving(each.saving, gb_hour),
                "why": each.why,
                "sure": each.sure,
            }
            for each in report.apps
        ],
    }


def as_rows(report: Report, gb_hour: float | None) -> list[dict[str, Any]]:
    """A flat row an app, for CSV."""
    rows = []
    for each in report.apps:
        saving = each.saving
        clock = each.advice.clock
        row: dict[str, Any] = {
            "app": each.key,
            "keep_s": each.advice.keep_ms / 1000.0,
            "prewarm_every_s": None if clock is None else clock.period_ms / 1000.0,
            "prewarm_from_s": None if clock is None else clock.opens_ms / 1000.0,
            "prewarm_for_s": None if clock is None else clock.open_ms / 1000.0,
            "least_by_hour": " ".join(map(str, each.advice.least)),
            "most_seen": max((most for most in each.most if most is not None), default=0),
            "saved_gb_h": None if saving is None else saving.gb_h,
            "saved_cold_starts": None if saving is None else saving.cold_starts,
            "saved_wait_s": None if saving is None else saving.wait_s,
        }
        if gb_hour is not None:
            row["saved_money"] = None if saving is None else saving.gb_h * gb_hour
        rows.append(row | {"sure": each.sure, "why": each.why})
    return rows


def knative(apps: Sequence[AppReport]) -> dict[str, dict[str, str]]:
    """Annotations of each app's revision template. Knative knows no hours: min-scale is the number
    that every hour has.

    A pod goes when the window has seen nothing, the delay after it is over, and, for the last one, its
    retention too: the three together are the time that is advised, each an hour at most.
    """
    found = {}
    for each in apps:
        keep_s = ceil(each.advice.keep_ms / 1000.0)
        window_s = min(max(keep_s, KNATIVE_WINDOW_S[0]), KNATIVE_WINDOW_S[1])
        delay_s = min(max(keep_s - window_s, 0), KNATIVE_MOST_S)
        retention_s = min(max(keep_s - window_s - delay_s, 0), KNATIVE_MOST_S)
        own = {
            f"{_KNATIVE}/min-scale": str(min(each.advice.least, default=0)),
            f"{_KNATIVE}/max-scale": str(_most(each)),
            f"{_KNATIVE}/window": f"{window_s}s",
            f"{_KNATIVE}/scale-down-delay": f"{delay_s}s",
        }
        if retention_s:
            own[f"{_KNATIVE}/scale-to-zero-pod-retention-period"] = f"{retention_s}s"
        found[each.key] = own
    return found


def keda(apps: Sequence[AppReport]) -> dict[str, dict[str, Any]]:
    """The fields of each app's ScaledObject spec. Its scaling trigger stays one's own: the cron
    triggers here stand beside it."""
    found: dict[str, dict[str, Any]] = {}
    for each in apps:
        triggers = [_cron_trigger(*times, 1) for times in _cron_windows(each.advice.clock)]
        triggers += [
            _cron_trigger(f"0 {begin} * * *", f"0 {end % HOURS} * * *", number)
            for begin, end, number in _stretches(each.advice.least)
        ]
        found[each.key] = {
            "minReplicaCount": min(each.advice.least, default=0),
            "maxReplicaCount": _most(each),
            "cooldownPeriod": ceil(each.advice.keep_ms / 1000.0),
            "triggers": triggers,
        }
    return found


def aws(apps: Sequence[AppReport], alias: str = "live") -> list[dict[str, Any]]:
    """Scheduled actions on each function's provisioned concurrency (UTC), for those that have some:
    by least instances, else by times that last a minute at least."""
    actions = []
    for each in apps:
        cuts: list[tuple[str, int]] = []
        if any(each.advice.least):
            before = each.advice.least[-1]
            for hour, number in enumerate(each.advice.least):
                if number != before:
                    cuts.append((f"cron(0 {hour} * * ? *)", number))
                before = number
            if not cuts:
                cuts = [("cron(0 0 * * ? *)", before)]
        else:
            for begin, end in _cron_windows(each.advice.clock):
                for text, number in ((begin, 1), (end, 0)):
                    minute, at_hours, _, _, weekday = text.split()
                    # AWS counts Sunday as 1, and wants a question mark for one of the two days.
                    day = "* * ?" if weekday == "*" else f"? * {(int(weekday) % 7) + 1}"
                    cuts.append((f"cron({minute} {at_hours} {day} *)", number))
        for place, (schedule, number) in enumerate(cuts):
            actions.append(
                {
                    "ServiceNamespace": "lambda",
                    "ScheduledActionName": f"{_NOT_IN_NAMES.sub('-', each.key)[:_LONGEST]}-{place}",
                    "ResourceId": f"function:{each.key}:{alias}",
                    "ScalableDimension": "lambda:function:ProvisionedConcurrency",
                    "Schedule": schedule,
                    "Timezone": "UTC",
                    "ScalableTargetAction": {"MinCapacity": number, "MaxCapacity": number},
                }
            )
    return actions


def _most(app: AppReport) -> int:
    seen = max((most for most in app.most if most is not None), default=1)
    return max(seen, *app.advice.least, 1)


def _stretches(least: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Hours with one number above the day's least: from, to, number."""
    floor = min(least, default=0)
    begin = 0
    for hour in range(1, len(least) + 1):
        if hour == len(least) or least[hour] != least[begin]:
            if least[begin] > floor:
                yield begin, hour, least[begin]
            begin = hour


def _cron_trigger(start: str, end: str, number: int) -> dict[str, Any]:
    metadata = {"timezone": "UTC", "start": start, "end": end, "desiredReplicas": str(number)}
    return {"type": "cron", "metadata": metadata}


def _cron_windows(clock: Clock | None) -> Iterator[tuple[str, str]]:
    """A clock as the five fields of cron, from the minute before its window on to the one after; none
    where so much would be all of the time."""
    if clock is None:
        return
    period_s, from_s = clock.period_ms / 1000.0, clock.opens_ms / 1000.0
    begin_s = from_s // _MINUTE_S * _MINUTE_S - _MINUTE_S
    end_s = -((-from_s - clock.open_ms / 1000.0) // _MINUTE_S) * _MINUTE_S
    if end_s - begin_s >= period_s:
        return
    yield _cron(begin_s % period_s, period_s), _cron(end_s % period_s, period_s)


def _cron(at_s: float, period_s: float) -> str:
    minute, hour = int(at_s % _HOUR_S // _MINUTE_S), int(at_s % _DAY_S // _HOUR_S)
    if period_s < _HOUR_S:
        step = int(period_s // _MINUTE_S)
        return f"{minute % step}-59/{step} * * * *"
    if period_s < _DAY_S:
        step = int(period_s // _HOUR_S)
        return f"{minute} {hour % step}-23/{step} * * *"
    # 1970 began on a Thursday, which cron counts as 4.
    weekday = "*" if period_s == _DAY_S else str((4 + int(at_s // _DAY_S)) % 7)
    return f"{minute} {hour} * * {weekday}"


def _saving(saving: Saving, gb_hour: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gb_h": saving.gb_h,
        "cold_starts": saving.cold_starts,
        "wait_s": saving.wait_s,
        "cost_s": saving.cost_s,
    }
    return found if gb_hour is None else found | {"money": saving.gb_h * gb_hour}
