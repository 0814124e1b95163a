"""The questions a scheduler asks, and what it lets a policy see: `Policy`, `AppPolicy`, `Pool`.

A policy decides how many instances an app has; it never touches one. It reads no clock and draws
no random number: the time comes with each question, so the same events give the same answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from typing import ClassVar

from warmscaler.models.outlook import Outlook

FOREVER_MS = inf
START_SMOOTHING = 0.3
"""Weight of a new observation in an app's start-up time: start-ups drift, a single one is noise."""


class State(IntEnum):
    """Where an instance is in its life."""

    CREATING = 0
    INITIALISING = 1
    IDLE = 2
    BUSY = 3
    DESTROYING = 4


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a request waited for the instance that served it. Times in ms."""

    from_ms: float
    """When it arrived."""
    to_ms: float
    queued: bool = False
    """An instance served it that was busy when it came: it waited for no start."""


class Instance:
    """One instance of an app, in one slot of the platform."""

    __slots__ = (
        "deployment",
        "expires_ms",
        "id",
        "idle_since_ms",
        "memory_mb",
        "pool",
        "request",
        "started_ms",
        "state",
        "taken_ms",
        "timer_ms",
        "wait",
    )

    def __init__(self, id: str, pool: Pool, started_ms: float) -> None:
        self.id = id
        self.pool = pool
        self.memory_mb = pool.memory_mb
        self.deployment = pool.deployment
        """Of its app; where the app was deployed anew since, it serves nobody any more."""
        self.started_ms = started_ms
        self.state = State.CREATING
        self.request: Hashable | None = None
        """The request it serves; while it starts, the request it was started for and must serve."""
        self.idle_since_ms = 0.0
        """While it is idle, and until its next request is done; 0 where it was not idle before."""
        self.taken_ms = 0.0
        """When it was given to the request that it serves, or served last."""
        self.expires_ms = FOREVER_MS
        self.timer_ms = FOREVER_MS
        """When its earliest pending timer rings; never later than `expires_ms` while idle."""
        self.wait: Wait | None = None
        """While busy: what its request waited, None where it found the instance idle."""


class Pool:
    """One app as its policy sees it: the counts that change with every event."""

    __slots__ = (
        "bound",
        "busy",
        "deployment",
        "idle",
        "key",
        "known",
        "memory_mb",
        "named_ms",
        "older",
        "policy",
        "runtime",
        "slots",
        "start_ms",
        "started_sum_ms",
        "starting",
        "starts_seen",
        "timer_ms",
        "waiting",
    )

    policy: AppPolicy

    def __init__(
        self, key: str, memory_mb: int, start_ms: float, runtime: str = "", *, starts_seen: int = 0
    ) -> None:
        self.key = key
        self.memory_mb = memory_mb
        self.runtime = runtime
        self.deployment = 0
        """Counts how often the app was deployed anew, with other memory or runtime."""
        self.named_ms = 0.0
        """When a request last named the memory and the runtime above."""
        self.older: list[tuple[int, str]] = []
        """Memory and runtime that were in force before."""
        self.start_ms = start_ms
        """What a start takes, from CreateSlot to ready: the prior, then as observed."""
        self.starts_seen = starts_seen
        """Starts observed since it was deployed, here or in training."""
        self.busy = 0
        """Instances that serve a request."""
        self.starting = 0
        """Instances on their way, bound to a request or not."""
        self.started_sum_ms = 0.0
        """The sum of the times at which these were started: their mean age follows."""
        self.bound = 0
        """Those of them that are bound to a request: what waits is not for them."""
        self.idle: list[Instance] = []
        """Idle instances; the most recently idle last, and it is taken first. Of a policy
        `by_level` one that became ready and was not used yet lies under those there."""
        self.waiting: OrderedDict[Hashable, float] = OrderedDict()
        """Requests bound to nothing yet, and when each arrived, oldest first. Under early binding
        only those that a limit keeps from a start of their own."""
        self.timer_ms = FOREVER_MS
        self.slots = 0
        """Slots that exist or are on their way, those being destroyed too."""
        self.known = False
        """It came back after a while without an instance."""

    def saw_start(self, took_ms: float) -> None:
        """A start is done: the mean of the first few, then of those of late. What was believed before
        one was seen is of other apps, and does not count any more."""
        self.starts_seen += 1
        self.start_ms += max(START_SMOOTHING, 1.0 / self.starts_seen) * (took_ms - self.start_ms)


class AppPolicy(ABC):
    """Answers for one app. The pool already counts the event that the question is about."""

    __slots__ = ("wake_ms",)

    def __init__(self) -> None:
        self.wake_ms = FOREVER_MS
        """When this policy wants to be asked `wake`; it may move it at any question."""

    def arrival(self, now_ms: float, pool: Pool) -> int:
        """A request came; it is in `busy` if an idle instance took it, else in `waiting`.

        Returns how many instances to start now. Asked under late binding only for requests that
        wait as well; under early binding the scheduler starts the one that the request is bound
        to by itself, and the answer comes on top of it.
        """
        return 0

    @abstractmethod
    def idle(self, now_ms: float, pool: Pool) -> float:
        """An instance went idle (it is `pool.idle[-1]`). Returns until when to keep it."""

    def ready(self, now_ms: float, pool: Pool) -> float:
        """A start ended and no request waits for it, so that it is `pool.idle[0]` of a policy
        `by_level`, else `pool.idle[-1]`. Returns until when to keep the instance."""
        return self.idle(now_ms, pool)

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        """A window ended. Returns a later time to keep the instance, or `now_ms` to release it.

        `level` is the number of requests at once that would take this instance.
        """
        return now_ms

    def served(  # noqa: B027 - few want to know
        self, now_ms: float, pool: Pool, arrived_ms: float
    ) -> None:
        """A request that waited has an instance now."""

    def completion(  # noqa: B027 - few want to know
        self, now_ms: float, pool: Pool, wait: Wait | None = None
    ) -> None:
        """A request ended, whether or not its instance is fit for another. `wait` is what it waited
        before; None where it did not."""

    def gone(  # noqa: B027 - few want to know
        self, now_ms: float, pool: Pool, arrived_ms: float
    ) -> None:
        """A request that waited, bound to nothing yet, gave up or was refused."""

    def evicted(self, now_ms: float, pool: Pool) -> None:  # noqa: B027 - few want to know
        """The least recently idle instance was taken away, and not because this policy said so."""

    def broke(self, now_ms: float, pool: Pool) -> int:
        """A request ended, and its instance, which was bad, is gone. Returns how many to start now."""
        return 0

    def resized(self, pool: Pool) -> None:  # noqa: B027 - few want to know
        """The app was deployed anew: its instances have `pool.memory_mb` from now on."""

    def wake(self, now_ms: float, pool: Pool) -> int:
        """`wake_ms` has come (it is reset to never before the question).

        Returns how many instances to start (> 0) or how many idle ones to release (< 0).
        """
        return 0

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        """What it expects of its app now, for people. Changes nothing."""
        return Outlook("goes by rules of its own", start_ms=self.wake_ms)


class Watcher:
    """Told by the scheduler what the fleet holds and whom it served, after it happened; never asked."""

    __slots__ = ()

    def started(self, now_ms: float, instance: Instance) -> None:
        """CreateSlot is called, or the instance is one of an earlier run: from now on it is held."""

    def released(self, now_ms: float, instance: Instance) -> None:
        """DestroySlot is called, or there is no such slot: it is held no longer."""

    def done(
        self, now_ms: float, instance: Instance, wait: Wait | None, *, broke: bool = False
    ) -> None:
        """The request is done that the instance has served since `taken_ms`; it waited so before.
        `broke` where the instance is bad, and goes."""

    def forgotten(self, key: str) -> None:
        """The app is not known any more."""


class Policy(ABC):
    """What the apps share: how requests are bound, what a new app starts from, global limits."""

    name: str = ""
    late_binding: ClassVar[bool] = False
    """Whether a waiting request takes the first instance of its app to become free or ready.
    Otherwise it is bound to the instance started for it, as the contest's reference does."""
    watcher: Watcher | None = None
    """Who wants to be told what is held and served; few do."""

    by_level: ClassVar[bool] = False
    """Whether it keeps the k-th instance by how long k requests at once are away. An instance that
    becomes ready and that nobody waits for is then the last: it moves none of those there up."""

    @abstractmethod
    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        """The policy of an app that the scheduler meets for the first time."""

    def start_ms(self, key: str, memory_mb: int, runtime: str) -> float:
        """What a start of this app is believed to take before one was seen."""
        return 1_500.0  # the middle of the contest's third set: create 300, init 1,225

    def starts_seen(self, key: str) -> int:
        """How many starts of this very app that belief rests on."""
        return 0

    def learned(self, pool: Pool) -> bytes | None:
        """What was learned online of an app, for a later process; None if nothing ever is."""
        return None

    def recall(self, pool: Pool, learned: bytes) -> None:  # noqa: B027 - for those that learn
        """Gives an app just met what an earlier process learned of it.

        Raises ValueError for bytes that `learned` never returned; the app is then as new.
        """

    def learned_of_all(self) -> bytes | None:
        """What was learned online of no app in particular, for a later process; None if nothing is."""
        return None

    def recall_of_all(self, learned: bytes) -> None:  # noqa: B027 - for those that learn
        """The inverse, before the first event. Raises ValueError for bytes that it never returned;
        nothing has changed then."""

    def make_room(self, now_ms: float, used_mb: int, needed_mb: int) -> Sequence[Pool]:
        """A start needs `needed_mb` on top of `used_mb`. Returns pools, each once for every least
        recently idle instance it must give up first."""
        return ()
