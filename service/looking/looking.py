"""All apps that are looked at, whoever asked for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import httpx2

from warmscaler.replicas.fleet import Fleet
from warmscaler.replicas.planner import ReplicaPlanner, Wanted
from warmscaler.replicas.spec import AppSpec
from warmscaler.service.looking.followed import Followed, Source
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.looking.place import Place
from warmscaler.service.looking.prometheus import Prometheus, client

TIDY_S = 60.0


class Full(Exception):
    """No more apps can be followed. Its text is one line."""


class Looking:
    """On the event loop it is started on. Answers come from the last look; looks come apart."""

    def __init__(
        self,
        options: LookingOptions,
        chance: Callable[[], float],
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`chance` gives numbers from 0 to 1, for the jitter of back-off."""
        self.options = options
        self.now_s = now_s
        self.places: dict[str, Place] = {}
        self._chance = chance
        self._apps: dict[Hashable, Followed] = {}
        self._kept: set[Hashable] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fleet = Fleet()
        self._http: httpx2.AsyncClient | None = None

    def __len__(self) -> int:
        return len(self._apps)

    def __iter__(self) -> Iterator[Followed]:
        return iter(self._apps.values())

    def known(self, key: Hashable) -> Followed | None:
        """An app that is followed already; counts as asking for it."""
        app = self._apps.get(key)
        if app is not None:
            app.asked_s = self.now_s()
        return app

    def follow(
        self, key: Hashable, spec: AppSpec, source: Source, *, keep: bool = False
    ) -> Followed:
        """Looks at an app from now on; with `keep` even if nobody asks for it. Raises Full."""
        if len(self._apps) >= self.options.most_apps:
            raise Full(f"{len(self._apps)} apps are followed: the most; see --max-apps")
        options = self.options
        # Who acts on a look may hear of it late: as if a replica took so much longer.
        spec = replace(spec, start_s=spec.start_s + options.acts_s)
        planner = ReplicaPlanner(
            spec,
            forecast=options.forecast,
            fleet=self._fleet,
            look_s=options.interval_s,
            overrides=options.overrides,
        )
        app = Followed(spec, source, planner)
        app.asked_s = self.now_s()
        self._apps[key] = app
        if keep:
            self._kept.add(key)
        self._place(source.prometheus).add(app)
        return app

    def leave(self, key: Hashable) -> None:
        """Looks at it no more."""
        app = self._apps.pop(key, None)
        self._kept.discard(key)
        if app is not None:
            self.places[app.source.prometheus].apps.pop(app, None)
            self._fleet.forget(app.spec.app)

    def floor(self, app: Followed) -> Wanted | None:
        """What is wanted of it now; None where that is not known, or no longer."""
        return app.floor(self.now_s(), self.options.hold_s)

    def trouble(self, app: Followed) -> str:
        """Why there is no floor."""
        place = self.places[app.source.prometheus]
        if place.problem is not None:
            return f"Prometheus at {place.name} is away: {place.problem}"
        return app.problem or "it has not been looked at yet"

    async def run(self) -> None:
        """Forgets what nobody asks for, until it is cancelled."""
        while True:
            await asyncio.sleep(TIDY_S)
            self.tidy()

    def tidy(self) -> None:
        """Forgets what nobody asked for."""
        limit_s = self.now_s() - self.options.forget_s
        for key, app in list(self._apps.items()):
            if app.asked_s < limit_s and not app.streams and key not in self._kept:
                self.leave(key)
        for name, place in list(self.places.items()):
            if not place.apps:
                self._tasks.pop(name).cancel()
                del self.places[name]

    async def close(self) -> None:
        """Ends all looks."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()

    def _place(self, address: str) -> Place:
        place = self.places.get(address)
        if place is None:
            if self._http is None:
                self._http = client()
            prometheus = Prometheus(address, self._http)
            place = Place(prometheus, prometheus.shown, self.options, self.now_s, self._chance)
            self.places[address] = place
            self._tasks[address] = asyncio.get_running_loop().create_task(place.run())
        return place
