"""A short version of `make keda`: what rose at this time on other days is there before it rises."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.keda.played import Scaled
from tests.keda.published import scaled_object
from tests.keda.rises import DAY_S, backfill, drawn
from tests.keda.serving import external_scaler, trigger
from tests.keda.world import exporter, needs_prometheus, prometheus
from tests.service.test_prometheus import ask
from warmscaler.service.keda.servicer import METRIC

AHEAD_S = 75.0
"""More than the test takes: it ends before anything rises."""
SPARSE_S = 600.0
"""So that half of the looks of the past were not seen, and it is read sooner."""


@needs_prometheus
def test_replicas_are_wanted_before_a_recurring_rise(tmp_path: Path) -> None:
    now_s = time.time()
    rises = [
        replace(each, start_s=90.0) for each in drawn(1, now_s + AHEAD_S, now_s + AHEAD_S + 5.0, 1)
    ]

    async def work() -> None:
        async with external_scaler(measured.url, interval_s=15.0, history_s=4.0 * DAY_S) as here:
            for rise in rises:
                query = f'max(in_flight{{app="{rise.app}"}})'
                metadata = trigger(
                    rise.app,
                    query=query,
                    containerConcurrency=str(rise.concurrency),
                    startSeconds=f"{rise.start_s:g}",
                )
                scaled = Scaled(here.client, scaled_object(rise.app, metadata), replicas=1)
                await here.until(partial(here.client.metric, scaled.ref, METRIC))
                await scaled.hpa()
                assert rise.value(time.time()) == rise.concurrency  # it has not begun
                assert scaled.replicas >= rise.needed() > 1
            steady = scaled_object("steady", trigger("steady"))
            assert await here.until(partial(here.client.metric, steady, METRIC)) == 1.0

    with exporter() as service:
        service.in_flight |= {rise.app: float(rise.concurrency) for rise in rises}
        service.in_flight["steady"] = 1.0
        backfill(rises, tmp_path / "p" / "data", now_s - 30.0, 3, SPARSE_S)
        with prometheus(tmp_path / "p", service.port) as measured:
            ask(measured.url, 'in_flight{job="shop"}', 2)
            asyncio.run(work())
