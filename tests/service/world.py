"""A world around one scheduler: every caller and a platform, events in any order, all of it checked.

Nothing here is a test by itself; the stateful test and the tests of the limits drive it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import inf
from random import Random

from warmscaler.models.policy import Instance, Policy, State
from warmscaler.service.scheduler.actions import (
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    ForgetApp,
    InitInstance,
    Refuse,
)
from warmscaler.service.scheduler.limits import UNLIMITED, Limits
from warmscaler.service.scheduler.scheduler import Scheduler

MEMORY_MB = (64, 128, 256, 512)


class World:
    """Who waits, which instance serves whom, and what the platform was asked for."""

    def __init__(self, policy: Policy, limits: Limits = UNLIMITED, apps: int = 6) -> None:
        self.scheduler = Scheduler(policy, limits=limits)
        self.limits = limits
        self.apps = apps
        self.now_ms = 1_000_000.0
        self.events = 0
        self.requests = 0
        self.open: dict[int, str] = {}
        """Requests without an answer, and their app."""
        self.in_force: dict[int, int] = {}
        """The deployment of its app that was in force once a request had arrived."""
        self.serving: dict[str, int] = {}
        self.creating: dict[str, Instance] = {}
        self.starting: dict[str, Instance] = {}
        self.destroying: dict[str, Instance] = {}
        self.live: set[str] = set()
        """Instances whose slot the platform made and did not take back."""
        self.over: list[str] = []
        """Instances that are gone, or an answer about them came: a late one may come again."""
        self.answers: Counter[str] = Counter()
        self.assigned: Counter[str] = Counter()
        self.told_ids: set[str] = set()

    def inherit(self, random: Random) -> None:
        """What an earlier run left, before anything else; within TIGHT, however it is drawn."""
        for number in range(3):
            app = random.randrange(4)
            state = random.choice((State.IDLE, State.BUSY, State.DESTROYING))
            name, size = f"old-{number}", MEMORY_MB[app]
            self.live.add(name)
            if state is State.BUSY:
                self.serving[name] = -number - 1
            adopt = self.scheduler.adopt
            self._do(adopt(self.now_ms, name, f"app-{app}", size, state=state))

    # Events

    def arrive(self, app: int, memory_mb: int | None = None) -> int:
        """A request; returns its number."""
        self.requests += 1
        key = f"app-{app}"
        self.open[self.requests] = key
        size = MEMORY_MB[app % len(MEMORY_MB)] if memory_mb is None else memory_mb
        actions = self.scheduler.arrival(self.now_ms, self.requests, key, size)
        if (pool := self.scheduler.pools.get(key)) is not None:
            self.in_force[self.requests] = pool.deployment
        self._do(actions)
        return self.requests

    def finish(self, instance_id: str, *, bad: bool = False) -> None:
        del self.serving[instance_id]
        self.over.append(instance_id)
        self._do(self.scheduler.idle(self.now_ms, instance_id, need_destroy=bad))

    def give_up(self, request: int) -> None:
        key = self.open.pop(request)
        self.answers["gone"] += 1
        self._do(self.scheduler.request_gone(self.now_ms, key, request))

    def created(self, instance_id: str) -> None:
        del self.creating[instance_id]
        self.live.add(instance_id)
        self._do(self.scheduler.slot_created(self.now_ms, instance_id))

    def ready(self, instance_id: str) -> None:
        del self.starting[instance_id]
        self._do(self.scheduler.instance_ready(self.now_ms, instance_id))

    def fail(self, instance_id: str, *, retry: bool) -> None:
        slot_exists = instance_id in self.starting
        (self.starting if slot_exists else self.creating).pop(instance_id)
        if not slot_exists:
            self.over.append(instance_id)
        fail = self.scheduler.start_failed
        self._do(fail(self.now_ms, instance_id, "it broke", slot_exists=slot_exists, retry=retry))

    def destroyed(self, instance_id: str) -> None:
        del self.destroying[instance_id]
        self.live.remove(instance_id)
        self.over.append(instance_id)
        self._do(self.scheduler.slot_destroyed(self.now_ms, instance_id))

    def nonsense(self, random: Random) -> None:
        """An answer that came twice, or late, or about nothing: nothing may change."""
        self.events += 1
        scheduler, now_ms = self.scheduler, self.now_ms
        gone = random.choice(self.over[-50:]) if self.over else "nobody"
        if gone in self.serving:
            gone = "nobody"  # it serves again: an Idle for it is the driver's to tell apart
        serving = next(iter(self.serving), "nobody")
        before = (dict(scheduler.instances), scheduler.waiting, scheduler.used_mb)
        for answer in (
            scheduler.idle(now_ms, gone),
            scheduler.idle(now_ms, next(iter(self.starting), "nobody"), need_destroy=True),
            scheduler.slot_created(now_ms, serving),
            scheduler.instance_ready(now_ms, serving),
            scheduler.instance_ready(now_ms, next(iter(self.creating), "nobody")),
            scheduler.slot_created(now_ms, next(iter(self.starting), "nobody")),
            scheduler.start_failed(now_ms, serving, "late", slot_exists=True),
            scheduler.start_failed(now_ms, next(iter(self.destroying), "x"), "", slot_exists=True),
            scheduler.slot_destroyed(now_ms, serving),
            scheduler.request_gone(now_ms, "app-0", -1),
            scheduler.request_gone(now_ms, "never seen", -1),
        ):
            assert not answer
        assert before == (dict(scheduler.instances), scheduler.waiting, scheduler.used_mb)

    def pass_time(self, by_ms: float) -> None:
        """Time passes; timers ring when they are due."""
        until_ms = self.now_ms + by_ms
        while self.scheduler.next_wake_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.scheduler.next_wake_ms)
            self._do(self.scheduler.wake(self.now_ms))
        self.now_ms = until_ms

    def step(self, random: Random) -> None:
        """One event, drawn."""
        draw = random.random()
        if draw < 0.28:
            deployed_anew = random.choice(MEMORY_MB) if random.random() < 0.05 else None
            self.arrive(int(self.apps * random.random() ** 2), deployed_anew)
        elif draw < 0.52 and self.serving:
            self.finish(random.choice(list(self.serving)), bad=random.random() < 0.1)
        elif draw < 0.66 and self.creating:
            self.created(random.choice(list(self.creating)))
        elif draw < 0.78 and self.starting:
            self.ready(random.choice(list(self.starting)))
        elif draw < 0.83 and (self.creating or self.starting):
            which = random.choice([*self.creating, *self.starting])
            self.fail(which, retry=random.random() < 0.5)
        elif draw < 0.90 and self.destroying:
            self.destroyed(random.choice(list(self.destroying)))
        elif draw < 0.93 and self.open:
            self.give_up(random.choice(list(self.open)))
        elif draw < 0.94:
            self.nonsense(random)
        else:
            self.events += 1
            self.pass_time(random.expovariate(1.0) * random.choice((1.0, 100.0, 3_000.0, 90_000.0)))

    def run(self, random: Random, count: int) -> None:
        """So many events, drawn, with a look at everything now and then."""
        for turn in range(count):
            self.step(random)
            if turn % 16 == 0:
                self.check()

    def settle(self) -> None:
        """Everything asked for is answered, every request ends; what is left is idle."""
        while self.creating or self.starting or self.serving or self.destroying:
            for each in list(self.destroying):
                self.destroyed(each)
            for each in list(self.creating):
                self.created(each)
            for each in list(self.starting):
                self.ready(each)
            for each in list(self.serving):
                self.finish(each)
            self.check()

    def end(self) -> None:
        """The scaler shuts down, every other time in the midst of its work: every request was
        answered once, every slot given back."""
        if self.events % 2:
            self.settle()
            assert not self.open, "requests were left without an answer"
        self._do(self.scheduler.drain(self.now_ms))
        self.settle()
        assert not self.open, "requests were left without an answer"
        assert not self.scheduler.instances
        assert not self.live, "slots were left at the platform"
        assert self.scheduler.used_mb == 0
        assert self.scheduler.waiting == 0
        assert sum(self.answers.values()) == self.requests

    # Actions

    def _do(self, actions: Actions) -> None:
        self.events += 1
        for action in actions:
            if isinstance(action, Assign):
                key = self.open.pop(action.request)  # type: ignore[call-overload]
                assert action.instance.pool.key == key, "an instance of another app"
                assert action.instance.id not in self.serving, "it serves two requests"
                assert action.instance.state is State.BUSY
                in_force = self.in_force[action.request]  # type: ignore[index]
                assert action.instance.deployment >= in_force, "an instance of an older deployment"
                self.serving[action.instance.id] = action.request  # type: ignore[assignment]
                self.answers["assigned"] += 1
                self.assigned[key] += 1
            elif isinstance(action, Refuse):
                del self.open[action.request]  # type: ignore[arg-type]
                self.answers["overload" if action.overload else "failed"] += 1
            elif isinstance(action, CreateSlot):
                assert action.instance.id not in self.told_ids, "an id given twice"
                self.told_ids.add(action.instance.id)
                self.creating[action.instance.id] = action.instance
            elif isinstance(action, InitInstance):
                self.starting[action.instance.id] = action.instance
            elif isinstance(action, DestroySlot):
                instance_id = action.instance.id
                assert instance_id not in self.serving, "destroyed while it serves"
                assert instance_id not in self.destroying, "destroyed twice"
                assert instance_id not in self.creating
                assert instance_id not in self.starting
                self.destroying[instance_id] = action.instance
            else:
                assert isinstance(action, ForgetApp)
                assert action.key not in self.scheduler.pools
                assert action.key not in self.open.values()

    def check(self) -> None:
        """What must hold between any two events."""
        scheduler, limits = self.scheduler, self.limits
        states: Counter[tuple[str, State]] = Counter()
        slots: Counter[str] = Counter()
        where: dict[State, Mapping[str, object]] = {
            State.CREATING: self.creating,
            State.INITIALISING: self.starting,
            State.BUSY: self.serving,
            State.DESTROYING: self.destroying,
        }
        for instance in scheduler.instances.values():
            states[instance.pool.key, instance.state] += 1
            slots[instance.pool.key] += 1
            assert scheduler.pools[instance.pool.key] is instance.pool
            if instance.state is State.IDLE:
                assert instance.deployment == instance.pool.deployment
                assert instance.memory_mb == instance.pool.memory_mb
                assert instance in instance.pool.idle
                assert min(instance.timer_ms, inf) <= instance.expires_ms
            else:
                assert instance.id in where[instance.state], instance.state
        assert len(scheduler.instances) == sum(map(len, where.values())) + sum(
            len(pool.idle) for pool in scheduler.pools.values()
        )
        assert scheduler.used_mb == sum(each.memory_mb for each in scheduler.instances.values())
        assert scheduler.waiting == len(self.open)
        assert self.live <= scheduler.instances.keys(), "a slot is forgotten"
        starting = [*self.creating.values(), *self.starting.values()]
        for key, pool in scheduler.pools.items():
            assert pool.busy == states[key, State.BUSY]
            assert pool.starting == states[key, State.CREATING] + states[key, State.INITIALISING]
            bound = sum(each.request is not None for each in starting if each.pool is pool)
            assert pool.bound == bound
            assert len(pool.idle) == states[key, State.IDLE]
            assert pool.slots == slots[key]
            # Those whose start failed come on top: they were let in before.
            assert len(pool.waiting) <= limits.waiting_per_app + limits.slots_per_app
            assert not (pool.idle and pool.waiting), "a request waits beside an idle instance"
            assert all(self.open[each] == key for each in pool.waiting)  # type: ignore[index]
            alive = pool.busy + pool.starting
            assert alive + len(pool.idle) <= limits.slots_per_app
            if pool.waiting and not alive:
                assert pool in scheduler._fleet.wanting, "requests wait for nothing"
                assert len(scheduler.instances) > states.total() - len(self.creating) - len(
                    self.starting
                ) - len(self.serving) - len(self.destroying), "room is wanted, and all is idle"
        for pool, wants in scheduler._fleet.wanting.items():
            needs = len(pool.waiting) - (pool.starting - pool.bound)
            assert 0 < wants <= needs, "room is wanted for nobody"
        first = scheduler._fleet.room.next_in_turn()
        assert first is None or not scheduler._fleet.room.has(first.memory_mb), (
            "room is left unused"
        )
        assert len(self.open) <= limits.waiting
        assert len(scheduler.pools) <= limits.apps
        assert len(scheduler.instances) <= limits.slots
        assert scheduler.used_mb <= limits.memory_mb
