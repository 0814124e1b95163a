"""The scheduler behind its transcripts: what can be said to it, and how what it answers reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf

from tests.service.transcripts.transcript import Machine, in_ms, in_words, sentence, values
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy, Pool, State
from warmscaler.models.registry import make_policy
from warmscaler.service.scheduler.actions import (
    Action,
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    InitInstance,
    Refuse,
)
from warmscaler.service.scheduler.limits import Limits
from warmscaler.service.scheduler.scheduler import Scheduler

MEMORY_MB = "128"
STATES = {"idle": State.IDLE, "busy": State.BUSY, "unwanted": State.DESTROYING}


class SchedulerMachine(Machine):
    """Instances are called i1, i2, ... in the order of their starts, requests as the text says."""

    def __init__(self) -> None:
        self._begin(make_policy("fixed:60"), Limits())

    def _begin(self, policy: Policy, limits: Limits) -> None:
        self.now_ms = 0.0
        self._scheduler = Scheduler(policy, id_prefix="i", limits=limits)
        self._apps: dict[str, str] = {}
        """The app of each request."""
        self._told: dict[str, str] = {}
        self._told_wake_ms = inf

    def _id(self, name: str) -> str:
        """`the newest` is the instance started last, whatever its name has become."""
        return next(reversed(self._scheduler.instances)) if name == "the newest" else name

    @sentence(
        r"with policy (?P<policy>\S+?)(?: at price (?P<price>[\d.]+))?(?:, limits (?P<limits>.+))?"
    )
    def with_policy(self, policy: str, price: str = "", limits: str = "") -> Iterator[str]:
        """A new scheduler, at time 0."""
        made = make_policy(policy) if policy != "learned" else Learned(None, float(price or 0.05))
        self._begin(made, Limits(**values(limits)) if limits else Limits())
        yield "a new scheduler"

    # Requests

    @sentence(r"(?P<request>\w+) wants (?P<app>\w+)(?: \((?P<memory_mb>\d+) MB\))?")
    def wants(self, request: str, app: str, memory_mb: str = MEMORY_MB) -> Iterator[str]:
        self._apps[request] = app
        yield from _read(self._scheduler.arrival(self.now_ms, request, app, int(memory_mb)))

    @sentence(r"r(?P<first>\d+) to r(?P<last>\d+) want (?P<app>\w+)(?: \((?P<memory_mb>\d+) MB\))?")
    def want(self, first: str, last: str, app: str, memory_mb: str = MEMORY_MB) -> Iterator[str]:
        """At once, one after the other."""
        for number in range(int(first), int(last) + 1):
            yield from self.wants(f"r{number}", app, memory_mb)

    @sentence(r"(?P<instance>the newest|\w+) is done(?P<bad>, and bad)?")
    def done(self, instance: str, bad: str = "") -> Iterator[str]:
        """The Idle call of whatever it serves."""
        idle = self._scheduler.idle
        yield from _read(idle(self.now_ms, self._id(instance), need_destroy=bool(bad)))

    @sentence(r"(?P<request>\w+) gives up")
    def gives_up(self, request: str) -> Iterator[str]:
        gone = self._scheduler.request_gone
        yield from _read(gone(self.now_ms, self._apps[request], request))

    # The platform's answers

    @sentence(r"the slot of (?P<instance>the newest|\w+) is created")
    def created(self, instance: str) -> Iterator[str]:
        yield from _read(self._scheduler.slot_created(self.now_ms, self._id(instance)))

    @sentence(r"(?P<instance>the newest|\w+) is ready")
    def ready(self, instance: str) -> Iterator[str]:
        yield from _read(self._scheduler.instance_ready(self.now_ms, self._id(instance)))

    @sentence(
        r"(?P<call>CreateSlot|Init) of (?P<instance>\w+) fails(?P<again>, to be tried again)?"
    )
    def fails(self, call: str, instance: str, again: str = "") -> Iterator[str]:
        failed = self._scheduler.start_failed
        reason = f"{call} failed"
        slot_exists, retry = call == "Init", bool(again)
        yield from _read(
            failed(self.now_ms, instance, reason, slot_exists=slot_exists, retry=retry)
        )

    @sentence(r"the slot of (?P<instance>the newest|\w+) is destroyed")
    def destroyed(self, instance: str) -> Iterator[str]:
        yield from _read(self._scheduler.slot_destroyed(self.now_ms, self._id(instance)))

    # The process

    @sentence(
        r"(?P<instance>\w+) of (?P<app>\w+) is adopted (?P<state>idle|busy|unwanted)"
        r"(?: \((?P<memory_mb>\d+) MB\))?"
    )
    def adopted(
        self, instance: str, app: str, state: str, memory_mb: str = MEMORY_MB
    ) -> Iterator[str]:
        """An earlier run left it."""
        adopt = self._scheduler.adopt
        yield from _read(adopt(self.now_ms, instance, app, int(memory_mb), state=STATES[state]))

    @sentence("the scaler shuts down")
    def shuts_down(self) -> Iterator[str]:
        yield from _read(self._scheduler.drain(self.now_ms))

    # A past, told in one line

    @sentence(
        r"(?P<app>\w+) is called (?P<count>\d+) times, every (?P<every>[^,]+),"
        r" (?P<together>\d+) at once, for (?P<lasting>[^,]+), starts take (?P<start>.+)"
    )
    def is_called(
        self, app: str, count: str, every: str, together: str, lasting: str, start: str
    ) -> Iterator[str]:
        """A platform answers everything. Only sums come out, and what follows the last call."""
        scheduler = self._scheduler
        happened: Counter[str] = Counter()
        agenda: list[tuple[float, int, str, str]] = []

        def plan(after_ms: float, what: str, name: str) -> None:
            heappush(agenda, (self.now_ms + after_ms, sum(happened.values()), what, name))
            happened[what] += 1

        def carry_out(actions: Actions) -> None:
            for action in actions:
                if isinstance(action, CreateSlot):
                    plan(in_ms(start), "start", action.instance.id)
                elif isinstance(action, Assign):
                    plan(in_ms(lasting), "request served", action.instance.id)
                elif isinstance(action, DestroySlot):
                    plan(1.0, "slot given back", action.instance.id)

        ends_ms = self.now_ms + int(count) * in_ms(every)
        for turn in range(int(count)):
            for _ in range(int(together)):
                plan(turn * in_ms(every), "call", f"past{turn}")
        cold = 0
        while True:
            next_ms = min(agenda[0][0] if agenda else inf, scheduler.next_wake_ms)
            if next_ms >= ends_ms:
                break
            self.now_ms = max(self.now_ms, next_ms)
            if not agenda or scheduler.next_wake_ms < agenda[0][0]:
                carry_out(scheduler.wake(self.now_ms))
                continue
            _, number, what, name = heappop(agenda)
            if what == "call":
                pool = scheduler.pools.get(app)
                cold += not (pool and pool.idle)
                carry_out(scheduler.arrival(self.now_ms, f"{name}-{number}", app, int(MEMORY_MB)))
            elif what == "start":
                scheduler.slot_created(self.now_ms, name)
                carry_out(scheduler.instance_ready(self.now_ms, name))
            elif what == "request served":
                carry_out(scheduler.idle(self.now_ms, name))
            else:
                carry_out(scheduler.slot_destroyed(self.now_ms, name))
        self.now_ms = max(self.now_ms, ends_ms - in_ms(every))
        yield f"{happened['call']} calls, {cold} of them cold; {happened['start']} starts"

    # What it shows

    @property
    def next_wake_ms(self) -> float:
        return self._scheduler.next_wake_ms

    def wake(self) -> Iterator[str]:
        yield from _read(self._scheduler.wake(self.now_ms))

    def changed(self) -> Iterator[str]:
        if self._told_wake_ms != (wake_ms := self._scheduler.next_wake_ms):
            self._told_wake_ms = wake_ms
            if wake_ms < inf:
                yield f"wake me at {in_words(wake_ms)}"
        now = {key: _counts(pool) for key, pool in self._scheduler.pools.items()}
        for key, counts in now.items():
            if self._told.get(key) != counts:
                yield f"{key}: {counts}"
        self._told = now


def _read(actions: Actions) -> Iterator[str]:
    return map(_words, actions)


def _words(action: Action) -> str:
    if isinstance(action, Assign):
        return f"assign {action.instance.id} to {action.request}"
    if isinstance(action, CreateSlot):
        return f"create slot {action.instance.id}, {action.instance.memory_mb} MB"
    if isinstance(action, InitInstance):
        return f"init {action.instance.pool.key} in {action.instance.id}"
    if isinstance(action, DestroySlot):
        return f"destroy slot {action.instance.id}: {action.reason}"
    if isinstance(action, Refuse):
        answer = "throttle" if action.overload else "refuse"
        return f"{answer} {action.request}: {action.reason}"
    return f"forget app {action.key}"


def _counts(pool: Pool) -> str:
    leaving = pool.slots - pool.busy - pool.starting - len(pool.idle)
    idle = ", ".join(f"{each.id} {_until(each.expires_ms)}" for each in pool.idle)
    counts = {
        f"{pool.busy} busy": pool.busy,
        f"{pool.starting} starting": pool.starting,
        f"{len(pool.idle)} idle ({idle})": len(pool.idle),
        f"{leaving} leaving": leaving,
        f"{len(pool.waiting) + pool.bound} waiting": len(pool.waiting) + pool.bound,
    }
    return ", ".join(text for text, count in counts.items() if count) or "no instance"


def _until(time_ms: float) -> str:
    return "for ever" if time_ms == inf else f"until {in_words(time_ms)}"
