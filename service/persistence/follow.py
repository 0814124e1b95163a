"""Follows a model store: takes up what is promoted, or rolled back to, while requests are served.

A thread asks for the pointer every few seconds; reads, verifies and tries a new version; and only
then tells the event loop. There new apps start from the new model at once, and the apps that are
known are handed over a few at a time, each with what was learned online, so that no request waits
for it. A version that is bad in any way is refused, and the one that serves stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any, Protocol

from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.artifact.store import Pointer, StoreError
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import DEFAULT, Objective
from warmscaler.models.policy import Pool
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.switch_interval import switch_soon

log = logging.getLogger("scaler.models")

POLL_S = 2.0
RETRY_S = 30.0
"""After so long a version that was refused is tried again: it may be whole by then."""
SLICE_S = 0.0005
"""The event loop is held for no longer than this, and one app."""
TRIED_APPS = 5
PAUSE_S = 0.005
"""Between one app and the next: there is no hurry, and requests come first."""


class Source(Protocol):
    """Where models come from: a `Store`, or a `ModelFolder`."""

    location: str

    def pointer(self) -> Pointer | None:
        """What should be in service. Raises StoreError."""

    def read(self, version: str) -> tuple[Model, dict[str, Any]]:
        """A model and its manifest. Raises StoreError, ArtifactError."""


class Follower:
    """From `start` to `close`, keeps `scheduler` at the version that the store points to."""

    def __init__(
        self,
        store: Source,
        *,
        objective: Objective | None = None,
        poll_s: float = POLL_S,
        once: bool = False,
    ) -> None:
        """`price` None is each model's own. With `once` it ends with the first version that it
        takes up."""
        self.version: str | None = None
        """The version in service; None before there was one."""
        self.manifest: Mapping[str, Any] = {}
        self.problem: str | None = None
        """Why the version that the store points to is not the one in service."""
        self.empty = False
        """Nothing was ever promoted, as far as `first` saw."""
        self.meanwhile: Mapping[str, str] | None = None
        """What serves until a version does, where that is another model; see `about`."""
        self.reloads = 0
        self.refusals = 0
        self._store = store
        self._objective = objective
        self._poll_s = poll_s
        self._once = once
        self._on_change: Callable[[], None] = lambda: None
        self._refused: tuple[Pointer | None, float] = (None, 0.0)
        self._stop = Event()
        self._thread = Thread(target=self._run, name="models", daemon=True)

    @property
    def location(self) -> str:
        """The store or the folder that is followed."""
        return self._store.location

    def first(self) -> Learned:
        """The policy to begin with: the version in service, else the newest before it that is fit,
        else the built-in prior; `problem` then says why. Before `start`; on any thread.
        """
        try:
            pointer = self._store.pointer()
        except StoreError as error:
            self.problem = str(error)
            return self._built_in()
        if pointer is None:
            self.empty = True
            self.problem = f"{self._store.location}: no version is in service yet"
            return self._built_in()
        for version in (pointer.version, *pointer.history[-2::-1]):
            try:
                policy, manifest = self._load(version, pointer)
            except (StoreError, ArtifactError) as error:
                self.problem = self.problem or str(error)
                self._refused = (pointer, time.monotonic())
            else:
                self.version, self.manifest = version, manifest
                return policy
        return self._built_in()

    def about(self) -> dict[str, str]:
        """What serves, for people and metrics."""
        if self.version is None and self.meanwhile is not None:
            return dict(self.meanwhile)
        trained_on = self.manifest.get("trained_on")
        return {
            "policy": Learned.name,
            "version": self.version or "built-in",
            "created": str(self.manifest.get("created", "")),
            "trained_on": str(trained_on.get("name", "")) if isinstance(trained_on, dict) else "",
        }

    def start(self, scheduler: Scheduler, on_change: Callable[[], None] = lambda: None) -> None:
        """Follows from now on. On the event loop that the scheduler lives on, where `on_change` is
        called after `version` or `problem` changed."""
        switch_soon()
        self._scheduler = scheduler
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Follows no longer. A hand-over that has begun goes on."""
        self._stop.set()

    # On a thread of its own

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s) and not (self._once and self.version):
            try:
                self._look()
            except Exception as error:  # the thread must live: a later version may be good
                log.exception("cannot follow the store")
                self._tell(str(error))

    def _look(self) -> None:
        try:
            pointer = self._store.pointer()
        except StoreError as error:
            self._tell(str(error))
            return
        if pointer is None or pointer.version == self.version:
            if pointer is not None:
                self._tell(None)
            return
        refused, at_s = self._refused
        if pointer == refused and time.monotonic() - at_s < RETRY_S:
            return
        try:
            policy, manifest = self._load(pointer.version, pointer)
        except (StoreError, ArtifactError) as error:
            if pointer != refused:
                log.error("version %s is refused: %s", pointer.version, error)
                self.refusals += 1
            self._refused = (pointer, time.monotonic())
            self._tell(str(error))
            return
        done = Event()
        self._call(lambda: self._swap(policy, pointer.version, manifest, done))
        while not done.wait(0.1):
            if self._stop.is_set() or self._loop.is_closed():
                return

    def _load(self, version: str, pointer: Pointer) -> tuple[Learned, Mapping[str, Any]]:
        """A policy that answers. Raises StoreError, ArtifactError."""
        try:
            model, manifest = self._store.read(version)
            if version == pointer.version and manifest["sha256"] != pointer.sha256:
                raise StoreError(f"version {version}: is not the one that was promoted")
            policy = Learned(model, objective=self._objective)
            policy.until_ms = trained_until_ms(manifest)
            _try(policy)
        except (StoreError, ArtifactError):
            raise
        except Exception as error:
            raise ArtifactError(f"version {version}: {type(error).__name__}: {error}") from None
        return policy, manifest

    def _built_in(self) -> Learned:
        return Learned(Model(objective=DEFAULT), objective=self._objective)

    def _tell(self, problem: str | None) -> None:
        if problem != self.problem:
            self.problem = problem
            self._call(self._on_change)

    def _call(self, what: Callable[[], None]) -> None:
        """On the event loop; nothing if it has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    # On the event loop

    def _swap(
        self, policy: Learned, version: str, manifest: Mapping[str, Any], done: Event
    ) -> None:
        scheduler = self._scheduler
        policy.follow(scheduler.policy)
        scheduler.go_by(policy)
        self.version, self.manifest, self.problem = version, manifest, None
        self.reloads += 1
        log.info("version %s is in service", version)
        self._on_change()
        pools = list(scheduler.pools.values())
        self._hand_over(policy, trained_until_ms(manifest), pools, done)

    def _hand_over(self, policy: Learned, until_ms: float, pools: list[Pool], done: Event) -> None:
        stop_s = time.perf_counter() + SLICE_S
        while pools:
            policy.adopt(pools.pop(), until_ms)
            if time.perf_counter() > stop_s:
                self._loop.call_later(0.001, self._hand_over, policy, until_ms, pools, done)
                return
        done.set()


def trained_until_ms(manifest: Mapping[str, Any]) -> float:
    """When the training of a model ended; where nobody wrote it down, before anything seen here."""
    trained_on = manifest.get("trained_on")
    ended = trained_on.get("last_arrival_ms") if isinstance(trained_on, dict) else None
    return float(ended) if isinstance(ended, int | float) else 0.0


def _try(policy: Learned) -> None:
    """Asks the policy about some apps, as a scheduler would; whatever it raises, it is no good."""
    for key in [*list(policy.model.apps)[:TRIED_APPS], "an app that nobody knows"]:
        pool = Pool(key, 256, policy.start_ms(key, 256, ""))
        app = pool.policy = policy.app(key, 256, "")
        now_ms = 1_000_000.0
        for _ in range(3):
            pool.busy = 1
            app.arrival(now_ms, pool)
            pool.busy = 0
            now_ms += 50.0
            app.completion(now_ms, pool)
            until_ms = app.idle(now_ms, pool)
            if not until_ms >= now_ms:
                raise ArtifactError(f"the model keeps an instance until {until_ms:g} ms")
            app.expiry(until_ms, pool, 1)
            now_ms += 60_000.0
        time.sleep(PAUSE_S)
