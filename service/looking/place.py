"""One Prometheus and the apps that are read there: history at first sight, then look by look."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from warmscaler.service.looking.followed import Followed
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.looking.prometheus import Prometheus
from warmscaler.service.looking.queries import Away, QueryError, Sample

log = logging.getLogger("scaler.looking")

BATCH = 50
"""Queries asked at once."""
BEHIND_LOOKS = 3.0
"""An app that was not seen for so many looks has its gap read first."""
RETRY_FIRST_S = 1.0
REFUSED_RETRY_S = 60.0
SLICE_S = 0.002
"""For so long the event loop is held at the most before calls are answered again."""
NOTHING = "the query finds no series"


class Place:
    """Asks one request at a time: what is away is not asked by many at once."""

    def __init__(
        self,
        prometheus: Prometheus,
        name: str,
        options: LookingOptions,
        now_s: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """`name` is its address as it may be shown; `chance` gives numbers from 0 to 1: places must
        not agree on when to try again."""
        self.name = name
        self.apps: dict[Followed, None] = {}
        self.problem: str | None = None
        """Why it cannot be asked."""
        self.asked = 0
        self.failed = 0
        self._prometheus = prometheus
        self._options = options
        self._now_s = now_s
        self._chance = chance
        self._called = asyncio.Event()
        self._failures = 0
        """In a row."""
        self._slice_s = 0.0

    def add(self, app: Followed) -> None:
        """Looked at as soon as may be."""
        self.apps[app] = None
        self._called.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        due_s = self._due_s()
        while True:
            self._called.clear()
            due_s = min(due_s, self._due_s())  # a clock may be put back
            try:
                await self._catch_up(due_s)
                if self._now_s() >= due_s:
                    await self._look()
                    due_s = self._due_s()
            except Exception as error:
                if not isinstance(error, Away):  # ours: looks go on, and it is said
                    log.exception("a look at %s failed", self.name)
                self._failures += 1
                self._away(str(error))
                await asyncio.sleep(self._pause_s(self._failures, self._options.interval_s))
                continue
            if not self._behind():
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due_s - self._now_s())):
                        await self._called.wait()

    def _due_s(self) -> float:
        """When the next look is."""
        return (self._now_s() // self._options.interval_s + 1.0) * self._options.interval_s

    def _behind(self) -> list[Followed]:
        now_s = self._now_s()
        limit_s = now_s - BEHIND_LOOKS * self._options.interval_s
        return [app for app in self.apps if app.seen_s < limit_s and app.retry_s <= now_s]

    async def _catch_up(self, due_s: float) -> None:
        """Reads what lies between; not beyond the next look, for which the others wait."""
        options = self._options
        for app in self._behind():
            now_s = self._now_s()
            if now_s >= due_s:
                return
            from_s = max(app.seen_s + options.interval_s, now_s - options.history_s)
            from_s = (from_s // options.interval_s + 1.0) * options.interval_s
            was_well = self.problem is None
            try:
                self.asked += 1
                source, step_s = app.source, options.interval_s
                found = await self._prometheus.history(
                    source.query, from_s, now_s, step_s, nothing_is_zero=source.nothing_is_zero
                )
                [sample] = await self._prometheus.now([source.query], now_s)
            except QueryError as error:
                self._well()
                await self._refused(app, str(error))
                continue
            except Away:
                # Where the one before was answered it may be this query, that takes too long, say:
                # it keeps the others waiting ever less often.
                if was_well:
                    app.failures += 1
                    app.retry_s = self._now_s() + self._pause_s(app.failures, REFUSED_RETRY_S)
                raise
            self._well()
            app.failures = 0
            if app.is_new:
                await asyncio.to_thread(app.remember, found)
            else:
                for at_s, value in found:
                    app.observe(at_s, value)
                    await self._breathe()
            app.seen_s = now_s
            await self._take(app, sample, now_s)

    async def _look(self) -> None:
        now_s = self._now_s()
        limit_s = now_s - BEHIND_LOOKS * self._options.interval_s
        ready = [app for app in self.apps if app.retry_s <= now_s and app.seen_s >= limit_s]
        for first in range(0, len(ready), BATCH):
            batch = ready[first : first + BATCH]
            samples = await self._ask(batch)
            for app, sample in zip(batch, samples, strict=True):
                if sample is None:
                    continue
                await self._take(app, sample, self._now_s())

    async def _ask(self, batch: Sequence[Followed]) -> Iterable[Sample | None]:
        """None where a query was refused."""
        now_s = self._now_s()
        try:
            self.asked += 1
            samples = await self._prometheus.now([app.source.query for app in batch], now_s)
            self._well()
            return samples
        except QueryError as error:
            self._well()
            if len(batch) == 1:
                await self._refused(batch[0], str(error))
                return [None]
        # One of them spoils it for all: each is asked by itself.
        found: list[Sample | None] = []
        for app in batch:
            found.extend(await self._ask([app]))
        return found

    async def _take(self, app: Followed, sample: Sample, now_s: float) -> None:
        value, problem = sample.value, sample.problem
        if value is None and problem is None:
            if app.source.nothing_is_zero:
                value = 0.0
            else:
                problem = NOTHING
        if value is not None:
            app.observe(now_s, value)
        app.seen_s = now_s
        self._looked(app, now_s, problem)
        await self._breathe()

    async def _refused(self, app: Followed, why: str) -> None:
        app.retry_s = self._now_s() + REFUSED_RETRY_S * (0.5 + self._chance() / 2.0)
        self._looked(app, self._now_s(), f"Prometheus does not answer the query: {why}")
        await self._breathe()

    def _looked(self, app: Followed, now_s: float, problem: str | None) -> None:
        if problem is not None and problem != app.problem:
            log.warning("%s: %s", app.spec.app, problem)
        before = app.wanted
        app.looked(now_s, problem)
        after = app.wanted
        if after is not None and (before is None or before.replicas != after.replicas):
            log.info("%s: %d wanted: %s", app.spec.app, after.replicas, after.reason)

    def _away(self, why: str) -> None:
        self.failed += 1
        if self.problem is None:
            log.error("Prometheus at %s is away, the last floors are held: %s", self.name, why)
        self.problem = why
        for app in self.apps:
            app.tell()

    def _well(self) -> None:
        if self.problem is not None:
            log.info("Prometheus at %s answers again", self.name)
        self.problem, self._failures = None, 0

    def _pause_s(self, failures: int, most_s: float) -> float:
        pause_s = min(RETRY_FIRST_S * 2.0 ** min(failures - 1, 10), most_s)
        return pause_s * (0.5 + self._chance() / 2.0)

    async def _breathe(self) -> None:
        """Lets calls be answered: a thousand plans in a row would keep them waiting."""
        if time.monotonic() - self._slice_s > SLICE_S:
            await asyncio.sleep(0)
            self._slice_s = time.monotonic()
