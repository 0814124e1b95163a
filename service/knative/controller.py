"""Floors under Revisions: watches them, follows each at Prometheus, writes what changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from warmscaler.service.knative import revisions
from warmscaler.service.knative.api import (
    CONFLICT,
    GONE,
    NOT_FOUND,
    SILENT_S,
    Api,
    ApiFailure,
    Event,
)
from warmscaler.service.knative.revisions import Revision
from warmscaler.service.looking.followed import Followed
from warmscaler.service.looking.looking import Full, Looking
from warmscaler.service.looking.told import PLAIN, Defaults, ToldError, read

log = logging.getLogger("scaler.knative")

RETRY_FIRST_S, RETRY_LAST_S = 0.5, 30.0
LEAVING_S = 20.0
"""At the end so long may be taken to take away what was written."""
LEAVING_AT_ONCE = 10
TRIES = 5
"""For one write, where others write as well."""
REFUSALS = (400, 403, 404, 409, 422)
"""Of one write: the next look may ask for another. Else the API is not well, and is left alone."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FloorOptions:
    """What is asked of every Revision that does not say otherwise."""

    namespace: str = "*"
    told: Mapping[str, str] = field(default_factory=dict)
    """As a trigger of KEDA's; `{namespace}` and `{revision}` in the query stand for its own."""
    defaults: Defaults = PLAIN
    dry_run: bool = False


class Controller:
    """Writes only while `leads`; knows and follows all the same, to be ready when it does."""

    def __init__(
        self,
        api: Api,
        looking: Looking,
        options: FloorOptions,
        leads: Callable[[], bool],
        chance: Callable[[], float],
    ) -> None:
        """`chance` gives numbers from 0 to 1, for the jitter of back-off."""
        self.known: dict[Key, Revision] = {}
        self.problem: str | None = None
        """Why Revisions are not watched."""
        self.writes = 0
        self._api = api
        self._looking = looking
        self._options = options
        self._leads = leads
        self._chance = chance
        self._apps: dict[Key, tuple[Followed, Callable[[], None]]] = {}
        self._refused: dict[Key, str] = {}
        self._dirty: dict[Key, None] = {}
        self._called = asyncio.Event()

    async def watch(self) -> None:
        """Lists, then follows what happens; until it is cancelled."""
        failures = 0
        while True:
            try:
                found, version = await self._api.revisions(self._options.namespace)
                self._replace(found)
                self.problem, failures = None, 0
                await self._follow(version)
            except ApiFailure as failure:
                if failure.status == GONE:
                    continue  # too long ago to be told of: listed anew
                failures += 1
                if self.problem is None:
                    log.error("the API does not answer: %s", failure)
                self.problem = str(failure)
                await asyncio.sleep(self._pause_s(failures))
            except TimeoutError:
                log.warning("the watch was silent for too long")

    async def write(self) -> None:
        """Writes what is to be written, one by one; until it is cancelled."""
        failures = 0
        while True:
            await self._called.wait()
            self._called.clear()
            while self._dirty and self._leads():
                key = next(iter(self._dirty))
                del self._dirty[key]
                try:
                    await self._write(key)
                    failures = 0
                except ApiFailure as failure:
                    log.warning("%s/%s is not written: %s", *key, failure)
                    if failure.status in REFUSALS:
                        continue
                    failures += 1
                    self._dirty[key] = None
                    await asyncio.sleep(self._pause_s(failures))

    def stir(self) -> None:
        """All is looked at again: it leads now, or an hour has passed."""
        self._dirty |= dict.fromkeys(self.known)
        self._called.set()

    async def leave(self) -> None:
        """Takes away what was written. Nothing is followed after."""
        for key in list(self._apps):
            self._leave(key)
        if self._options.dry_run:
            return
        left = iter(list(self.known))
        try:
            async with asyncio.timeout(LEAVING_S):
                await asyncio.gather(*(self._take_away(left) for _ in range(LEAVING_AT_ONCE)))
        except TimeoutError:
            log.error("the API took too long: floors may be left behind")

    async def _take_away(self, left: Iterator[Key]) -> None:
        for key in left:
            while self._leads():
                try:
                    await self._write(key)
                    break
                except ApiFailure as failure:
                    log.warning("%s/%s keeps its floor: %s", *key, failure)
                    await asyncio.sleep(self._pause_s(1))

    async def _follow(self, version: str) -> None:
        events = self._api.watch(self._options.namespace, version)
        while True:
            async with asyncio.timeout(SILENT_S):
                event = await anext(events, None)
            if event is None:
                return
            self._heard(event)

    def _heard(self, event: Event) -> None:
        if event.kind == "BOOKMARK":
            return
        revision = revisions.read(event.object)
        if event.kind == "DELETED":
            self._gone(revision.key)
        else:
            self._seen(revision)

    def _replace(self, found: list[dict[str, Any]]) -> None:
        every = [revisions.read(each) for each in found]
        for key in self.known.keys() - {each.key for each in every}:
            self._gone(key)
        for each in every:
            self._seen(each)

    def _seen(self, revision: Revision) -> None:
        before = self.known.get(revision.key)
        self.known[revision.key] = revision
        if before is None or (before.told, before.active) != (revision.told, revision.active):
            self._leave(revision.key)
            if revision.active:
                self._join(revision)
        self._stir(revision.key)

    def _gone(self, key: Key) -> None:
        self.known.pop(key, None)
        self._refused.pop(key, None)
        self._leave(key)

    def _join(self, revision: Revision) -> None:
        told = {**self._options.told, **revision.told}
        names = {"{namespace}": revision.namespace, "{revision}": revision.name}
        for name, text in names.items():
            told["query"] = told.get("query", "").replace(name, text)
        key = revision.key
        try:
            spec, source = read(told, "/".join(key), self._options.defaults)
            app = self._looking.follow(key, spec, source, keep=True)
        except (ToldError, Full) as error:
            if self._refused.get(key) != str(error):
                log.warning("%s/%s has no floor: %s", *key, error)
            self._refused[key] = str(error)
            return

        def looked() -> None:
            self._stir(key)

        app.changed[looked] = None
        self._apps[key] = app, looked

    def _leave(self, key: Key) -> None:
        if (found := self._apps.pop(key, None)) is not None:
            app, looked = found
            app.changed.pop(looked, None)
            self._looking.leave(key)

    def _stir(self, key: Key) -> None:
        self._dirty[key] = None
        self._called.set()

    def _wanted(self, key: Key) -> int | None:
        found = self._apps.get(key)
        floor = None if found is None else self._looking.floor(found[0])
        return None if floor is None else floor.replicas

    def _waits(self, key: Key) -> bool:
        """Whether nothing is known of it yet: what an earlier run wrote is held for a while as well."""
        if (found := self._apps.get(key)) is None:
            return False
        app, looking = found[0], self._looking
        return app.wanted is None and looking.now_s() - app.asked_s <= looking.options.hold_s

    async def _write(self, key: Key) -> None:
        """Raises ApiFailure. What somebody else wrote meanwhile is read, and thought about anew."""
        for _ in range(TRIES):
            revision = self.known.get(key)
            if revision is None or self._waits(key):
                return
            target = revisions.change(revision, self._wanted(key))
            if target is None:
                return
            if self._options.dry_run:
                log.info("dry run: %s/%s would have min-scale %s", *key, target or "of none")
                return
            try:
                body = revisions.patch(revision, target)
                found = await self._api.patch(*key, body)
            except ApiFailure as failure:
                if failure.status == NOT_FOUND:
                    return  # the watch tells of it
                if failure.status != CONFLICT:
                    raise
                self.known[key] = revisions.read(await self._api.revision(*key))
                continue
            self.writes += 1
            log.info("%s/%s: min-scale %s", *key, target or "taken away")
            if self.known.get(key) is revision:  # else the watch has told of something newer
                self.known[key] = revisions.read(found)
            return
        raise ApiFailure("it changes faster than it can be written", CONFLICT)

    def _pause_s(self, failures: int) -> float:
        pause_s = min(RETRY_FIRST_S * 2.0 ** min(failures - 1, 10), RETRY_LAST_S)
        return pause_s * (0.5 + self._chance() / 2.0)
