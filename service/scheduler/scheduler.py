"""The scheduler: a state machine without I/O. Stimuli go in with their time, actions come out.

It opens no socket, reads no clock, starts no task and draws no random number. Two drivers run it:
the gRPC service (real clock, real platform) and the replay (both simulated), so that what is
evaluated is what runs. The shape is that of h11 and of dask/distributed's worker state machine.

Stimuli are the public methods. Each returns the actions its driver must carry out, in order:

    arrival           a request wants an instance            idle           a request is done
    request_gone      its caller gave up                     wake           `next_wake_ms` has come
    slot_created      CreateSlot answered                    instance_ready Init answered
    start_failed      either of them failed                  slot_destroyed DestroySlot answered
    drain             no new work; idle instances go adopt        there is one of an earlier run

Times are milliseconds on any clock that never goes back. A stimulus about an instance that the
scheduler no longer knows, or that no longer fits its state, changes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import suppress
from math import inf

from warmscaler.models.policy import Instance, Policy, Pool, State
from warmscaler.service.scheduler.actions import (
    Action,
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    ForgetApp,
    InitInstance,
    Refuse,
)
from warmscaler.service.scheduler.apps import Apps
from warmscaler.service.scheduler.limits import UNLIMITED, Limits, Room
from warmscaler.service.scheduler.timers import Timers

__all__ = [
    "Action",
    "Actions",
    "Assign",
    "CreateSlot",
    "DestroySlot",
    "ForgetApp",
    "InitInstance",
    "Refuse",
    "Scheduler",
]

START_SMOOTHING = 0.3
"""Weight of a new observation in an app's start-up time: start-ups drift, a single one is noise."""

_NOTHING: Actions = ()


class Scheduler:
    """Which instance serves a request, when to start one, and how long to keep it."""

    def __init__(self, policy: Policy, *, id_prefix: str = "", limits: Limits = UNLIMITED) -> None:
        """`id_prefix` starts the id of every instance (tells one run's instances from another's)."""
        self.policy = policy
        self.limits = limits
        self.pools = Apps()
        self.instances: dict[str, Instance] = {}
        """Every instance whose slot exists or is on its way, until it is destroyed."""
        self.learned: dict[str, bytes] = {}
        """What an earlier run learned of apps that this one has not met yet, by key."""
        self.waiting = 0
        """Requests that have no answer yet."""
        self.draining = False
        self._late = policy.late_binding
        self._id_prefix = id_prefix
        self._started = 0
        self._bound: dict[Hashable, Instance] = {}
        """The start that each request waits for, where it waits for one in particular."""
        self._room = Room(limits)
        self._wanting = self._room.wanting
        self._oldest: list[Instance] = []
        """Instances that were idle when room was wanted, the least recently idle last."""
        self._none_idle = False
        """No instance is idle, and none was since room began to be wanted."""
        self._timers = Timers()
        self.next_wake_ms = inf
        """When `wake` wants to be called; it may move with any stimulus."""

    @property
    def used_mb(self) -> int:
        """Memory of all instances."""
        return self._room.used_mb

    # Requests

    def arrival(
        self, now_ms: float, request: Hashable, key: str, memory_mb: int, runtime: str = ""
    ) -> Actions:
        """A request of app `key` wants an instance. `request` must be unique among those open."""
        pool = self.pools.get(key)
        if pool is None:
            return self._first_arrival(now_ms, request, key, memory_mb, runtime)
        if pool.idle:
            pool.memory_mb = memory_mb  # deployed anew: it wants no room, with one idle
            instance = pool.idle.pop()
            instance.state = State.BUSY
            instance.request = request
            pool.busy += 1
            starts = pool.policy.arrival(now_ms, pool)
            if pool.policy.wake_ms < pool.timer_ms:
                self._arm_pool(pool)
            if not starts:
                return (Assign(request, instance),)
            return [Assign(request, instance), *self._start_many(now_ms, pool, starts)]
        refused = self._refusal(request, memory_mb, len(pool.waiting))
        if refused is not None:
            return (refused,)
        self._room.resize(pool, memory_mb)
        return self._wait(now_ms, pool, request)

    def _first_arrival(
        self, now_ms: float, request: Hashable, key: str, memory_mb: int, runtime: str
    ) -> Actions:
        limits = self.limits
        refused = self._refusal(request, memory_mb, 0)
        if refused is not None:
            return (refused,)
        forgotten = self.pools.forget_before(now_ms - limits.forget_ms)
        if len(self.pools) >= limits.apps:
            missed_least = self.pools.forget_one()
            if missed_least is None:
                reason = f"{limits.apps} apps are served already"
                return (Refuse(request, reason, overload=True),)
            forgotten.append(missed_least)
        actions = self._wait(now_ms, self._add_pool(key, memory_mb, runtime), request)
        return [*actions, *map(ForgetApp, forgotten)] if forgotten else actions

    def _refusal(self, request: Hashable, memory_mb: int, waiting: int) -> Refuse | None:
        """Why a request may not wait; `waiting` are those of its app that do."""
        limits = self.limits
        if self.draining:
            return Refuse(request, "the scaler is shutting down")
        if self.waiting >= limits.waiting:
            reason = f"{limits.waiting} requests wait already"
        elif waiting >= limits.waiting_per_app:
            reason = f"{limits.waiting_per_app} requests of this app wait already"
        elif memory_mb > limits.memory_mb:
            reason = f"the app needs {memory_mb} MB and there are only {limits.memory_mb}"
        else:
            return None
        return Refuse(request, reason, overload=True)

    def _wait(self, now_ms: float, pool: Pool, request: Hashable) -> Actions:
        self.waiting += 1
        if not pool.slots:
            self.pools.occupy(pool)
        if self._late:
            pool.waiting.append(request)
            starts = pool.policy.arrival(now_ms, pool)
            if starts <= 0 and not pool.busy and not pool.starting:
                starts = 1  # nothing will ever become free: whatever the policy says, start one
            actions = self._start_many(now_ms, pool, starts)
        else:
            actions = self._start(now_ms, pool, request)
            actions += self._start_many(now_ms, pool, pool.policy.arrival(now_ms, pool))
        if self._wanting:
            actions += self._share_room(now_ms)  # the app may have another size now
        if pool.policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return actions

    def idle(self, now_ms: float, instance_id: str, *, need_destroy: bool = False) -> Actions:
        """The request of this instance is done; `need_destroy` if the instance is bad."""
        instance = self.instances.get(instance_id)
        if instance is None or instance.state is not State.BUSY:
            return _NOTHING
        pool = instance.pool
        policy = pool.policy
        instance.request = None
        instance.idle_since_ms = 0.0
        pool.busy -= 1
        policy.completion(now_ms, pool)
        if need_destroy:
            actions = self._destroy(instance, "the instance is bad")
            actions += self._replace(now_ms, pool)
        elif pool.waiting:
            if not self._wanting:
                return (self._bind(instance, pool.waiting.popleft()),)
            if not self._room.must_yield(pool):
                bound = self._bind(instance, pool.waiting.popleft())
                return [bound, *self._wants_less(now_ms, pool)]
            actions = self._destroy(instance, "it makes room for another app")
            actions += self._replace(now_ms, pool)
        elif self.draining:
            return self._destroy(instance, "the scaler is shutting down")
        elif self._wanting and self._room.short():
            return self._destroy(instance, "it makes room for another app")
        else:
            instance.state = State.IDLE
            instance.idle_since_ms = now_ms
            pool.idle.append(instance)
            self._none_idle = False
            expires_ms = policy.idle(now_ms, pool)
            instance.expires_ms = expires_ms
            if expires_ms < instance.timer_ms:
                self._arm(instance)
            actions = []
        if policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return actions

    def request_gone(self, now_ms: float, key: str, request: Hashable) -> Actions:
        """The caller of a request without an instance gave up. Its start goes on for the next."""
        instance = self._bound.pop(request, None)
        if instance is not None:
            instance.request = None
            instance.pool.bound -= 1
            self.waiting -= 1
            return self._wants_less(now_ms, instance.pool)
        pool = self.pools.get(key)
        if pool is not None and request in pool.waiting:
            pool.waiting.remove(request)
            self.waiting -= 1
            self._vacate(now_ms, pool)
            return self._wants_less(now_ms, pool)
        return _NOTHING

    # Starts

    def slot_created(self, now_ms: float, instance_id: str) -> Actions:
        """The platform made the slot of this instance."""
        instance = self.instances.get(instance_id)
        if instance is None or instance.state is not State.CREATING:
            return _NOTHING
        instance.state = State.INITIALISING
        return (InitInstance(instance),)

    def instance_ready(self, now_ms: float, instance_id: str) -> Actions:
        """The app runs in its slot."""
        instance = self.instances.get(instance_id)
        if instance is None or instance.state is not State.INITIALISING:
            return _NOTHING
        pool = instance.pool
        pool.starting -= 1
        pool.start_ms += START_SMOOTHING * (now_ms - instance.started_ms - pool.start_ms)
        if instance.request is not None:
            return (self._bind(instance, instance.request),)
        if pool.waiting:
            bound = self._bind(instance, pool.waiting.popleft())
            return [bound, *self._wants_less(now_ms, pool)]
        if self.draining:
            return self._destroy(instance, "the scaler is shutting down")
        if self._wanting and self._room.short():
            return self._destroy(instance, "it makes room for another app")
        instance.state = State.IDLE
        instance.idle_since_ms = now_ms
        pool.idle.append(instance)
        self._none_idle = False
        instance.expires_ms = pool.policy.ready(now_ms, pool)
        if instance.expires_ms < instance.timer_ms:
            self._arm(instance)
        if pool.policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return _NOTHING

    def start_failed(
        self,
        now_ms: float,
        instance_id: str,
        reason: str,
        *,
        slot_exists: bool,
        retry: bool = False,
    ) -> Actions:
        """CreateSlot or Init of this instance failed; a slot that exists is given back.

        With `retry` a request that waits for it gets another start.
        """
        instance = self.instances.get(instance_id)
        if instance is None or instance.state > State.INITIALISING:
            return _NOTHING
        pool = instance.pool
        pool.starting -= 1
        request, instance.request = instance.request, None
        actions: list[Action] = []
        if request is not None:
            del self._bound[request]
            pool.bound -= 1
            if not retry:
                actions.append(self._refuse(request, reason))
        elif not retry and pool.waiting and pool not in self._wanting:
            if not pool.starting and not pool.busy:
                # Nothing is left that they could wait for, and the next start would likely fail.
                actions += [self._refuse(waiter, reason) for waiter in pool.waiting]
                pool.waiting.clear()
            elif len(pool.waiting) > pool.starting - pool.bound + pool.busy:
                actions.append(self._refuse(pool.waiting.popleft(), reason))
        if slot_exists:
            actions += self._destroy(instance, reason)
        else:
            actions += self._forget(now_ms, instance)
        if retry and request is not None and pool.idle:
            actions.append(self._bind(pool.idle.pop(), request))  # one went idle meanwhile
        elif retry and (request is not None or self._without_start(pool)):
            actions += self._start(now_ms, pool, request)
        else:
            actions += self._replace(now_ms, pool)
        return actions

    def slot_destroyed(self, now_ms: float, instance_id: str) -> Actions:
        """The platform took the slot of this instance back."""
        instance = self.instances.get(instance_id)
        if instance is not None and instance.state is State.DESTROYING:
            return self._forget(now_ms, instance)
        return _NOTHING

    def adopt(
        self,
        now_ms: float,
        instance_id: str,
        key: str,
        memory_mb: int,
        runtime: str = "",
        *,
        state: State,
    ) -> Actions:
        """An instance of an earlier run: IDLE, BUSY until its `idle`, or DESTROYING to be rid of."""
        pool = self.pools.get(key)
        if pool is None:
            pool = self._add_pool(key, memory_mb, runtime)
        self.pools.occupy(pool)
        instance = Instance(instance_id, pool, now_ms)
        instance.memory_mb = memory_mb
        self.instances[instance_id] = instance
        self._room.takes(instance)
        if state is State.BUSY:
            instance.state = State.BUSY
            pool.busy += 1
            pool.policy.arrival(now_ms, pool)
        elif state is State.IDLE:
            instance.state = State.IDLE
            instance.idle_since_ms = now_ms
            pool.idle.append(instance)
            instance.expires_ms = pool.policy.ready(now_ms, pool)
            self._arm(instance)
        else:
            return self._destroy(instance, "left by an earlier run")
        if pool.policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return _NOTHING

    # Time

    def wake(self, now_ms: float) -> Actions:
        """Carries out everything due at or before `now_ms`."""
        actions: list[Action] = []
        while (target := self._timers.pop_due(now_ms)) is not None:
            if isinstance(target, Pool):
                actions += self._wake_pool(now_ms, target)
            elif target.state is State.IDLE:
                actions += self._expire(now_ms, target)
        self.next_wake_ms = self._timers.next_ms
        return actions

    def drain(self, now_ms: float) -> Actions:
        """No new work: idle instances go now, busy ones when they are done."""
        self.draining = True
        actions: list[Action] = []
        for pool in self.pools.values():
            while pool.idle:
                actions += self._evict(now_ms, pool, "the scaler is shutting down")
        return actions

    def idle_instances(self) -> Iterator[Instance]:
        """Every idle instance."""
        return (instance for pool in self.pools.values() for instance in pool.idle)

    # The rest is how.

    def _add_pool(self, key: str, memory_mb: int, runtime: str) -> Pool:
        pool = Pool(key, memory_mb, self.policy.start_ms(key, memory_mb, runtime))
        pool.policy = self.policy.app(key, memory_mb, runtime)
        if key in self.learned:
            with suppress(ValueError):  # damaged: the app is new
                self.policy.recall(pool, self.learned.pop(key))
        self.pools[key] = pool
        return pool

    def _start_many(self, now_ms: float, pool: Pool, count: int) -> list[Action]:
        actions: list[Action] = []
        if not self.draining or pool.waiting:
            for _ in range(count):
                actions += self._start(now_ms, pool, None)
        return actions

    def _start(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        room = self._room
        if self._wanting or room.full_for(pool) or not room.has(pool.memory_mb):
            return self._find_room(now_ms, pool, request)
        return self._make(now_ms, pool, request)

    def _make(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        room = self._room
        if not pool.slots:
            self.pools.occupy(pool)
        actions: list[Action] = []
        for victim in self.policy.make_room(now_ms, room.used_mb, pool.memory_mb):
            actions += self._destroy(victim.idle.pop(0), "evicted to make room")
        self._started += 1
        instance = Instance(f"{self._id_prefix}{self._started}", pool, now_ms)
        if request is not None:
            instance.request = request
            self._bound[request] = instance
            pool.bound += 1
        pool.starting += 1
        self.instances[instance.id] = instance
        room.takes(instance)
        actions.append(CreateSlot(instance))
        return actions

    def _find_room(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        """A start that a limit forbids, or before which others want room: its request waits, and
        others' idle instances make room."""
        if request is not None:
            pool.waiting.append(request)
            if not pool.slots:
                self.pools.occupy(pool)
        wanted = self._wanting.get(pool, 0)
        if self._room.full_for(pool) or wanted >= self._without_start(pool):
            return []  # its own instances will serve; or it was to be started ahead only
        if not self._wanting:
            self._oldest, self._none_idle = [], False
        self._room.want(pool)
        return self._share_room(now_ms)

    def _share_room(self, now_ms: float) -> list[Action]:
        """What is idle makes room for those that want it, who have it in turn."""
        actions: list[Action] = []
        while self._room.short() and (oldest := self._least_recently_idle()) is not None:
            actions += self._evict(now_ms, oldest, "it makes room for another app")
        return actions + self._use_room(now_ms)

    def _least_recently_idle(self) -> Pool | None:
        """The app whose `idle[0]` was used least recently of all."""
        while not self._none_idle:
            while self._oldest:
                pool = self._oldest.pop().pool
                if pool.idle:
                    return pool
            self._oldest = sorted(self.idle_instances(), key=lambda each: -each.idle_since_ms)
            self._none_idle = not self._oldest
        return None

    def _use_room(self, now_ms: float) -> list[Action]:
        """Room came free: those that want it have it in turn."""
        room = self._room
        actions: list[Action] = []
        while (pool := room.next_in_turn()) is not None:
            if room.full_for(pool):
                room.wants_at_most(pool, 0)
            elif room.has(pool.memory_mb):
                room.had_its_turn(pool)
                actions += self._make(now_ms, pool, None)
            else:
                break
        return actions

    def _wants_less(self, now_ms: float, pool: Pool) -> list[Action]:
        """A request of the app waits no more, or has a start now: the room that it wanted, if it
        did, is for the next in turn."""
        if pool not in self._wanting:
            return []
        self._room.wants_at_most(pool, self._without_start(pool))
        return self._use_room(now_ms)

    @staticmethod
    def _without_start(pool: Pool) -> int:
        """Requests that wait without a start of the app being under way for each."""
        return max(0, len(pool.waiting) - (pool.starting - pool.bound))

    def _replace(self, now_ms: float, pool: Pool) -> list[Action]:
        """Starts an instance if requests wait and the last that could have served them is gone."""
        if pool.waiting and not pool.busy and not pool.starting and pool not in self._wanting:
            return self._start(now_ms, pool, None)
        return []

    def _bind(self, instance: Instance, request: Hashable) -> Assign:
        """Gives an instance that just became free or ready to a request that waits."""
        if instance.state < State.IDLE and instance.request is not None:
            del self._bound[request]
            instance.pool.bound -= 1
        self.waiting -= 1
        instance.state = State.BUSY
        instance.request = request
        instance.pool.busy += 1
        return Assign(request, instance)

    def _refuse(self, request: Hashable, reason: str) -> Refuse:
        self.waiting -= 1
        return Refuse(request, reason)

    def _evict(self, now_ms: float, pool: Pool, reason: str) -> list[Action]:
        """Takes the least recently idle instance of an app away, against its policy's word."""
        instance = pool.idle.pop(0)
        pool.policy.evicted(now_ms, pool)
        return self._destroy(instance, reason)

    def _destroy(self, instance: Instance, reason: str) -> list[Action]:
        """Gives back the slot of an instance already taken off its pool's idle ones."""
        instance.state = State.DESTROYING
        self._room.leaves(instance)
        return [DestroySlot(instance, reason)]

    def _forget(self, now_ms: float, instance: Instance) -> list[Action]:
        """There is no slot of this instance any more."""
        del self.instances[instance.id]
        self._room.frees(instance, was_leaving=instance.state is State.DESTROYING)
        instance.state = State.DESTROYING
        actions = self._use_room(now_ms) if self._wanting else []
        self._vacate(now_ms, instance.pool)
        return actions

    def _vacate(self, now_ms: float, pool: Pool) -> None:
        if not pool.slots and not pool.waiting and self.pools.get(pool.key) is pool:
            self.pools.vacate(now_ms, pool)

    def _expire(self, now_ms: float, instance: Instance) -> list[Action]:
        if instance.expires_ms <= now_ms:
            pool = instance.pool
            position = pool.idle.index(instance)
            level = pool.busy + len(pool.waiting) + len(pool.idle) - position
            instance.expires_ms = pool.policy.expiry(now_ms, pool, level)
            if instance.expires_ms <= now_ms:
                del pool.idle[position]
                actions = self._destroy(instance, "its keep-alive window ended")
                if pool.policy.wake_ms < pool.timer_ms:
                    self._arm_pool(pool)
                return actions
        self._arm(instance)
        return []

    def _wake_pool(self, now_ms: float, pool: Pool) -> list[Action]:
        policy = pool.policy
        actions: list[Action] = []
        if policy.wake_ms <= now_ms:
            policy.wake_ms = inf
            change = policy.wake(now_ms, pool)
            if policy.wake_ms <= now_ms:
                policy.wake_ms = now_ms + 1.0  # asked for now, again: rounding, or it would spin
            if change > 0:
                actions = self._start_many(now_ms, pool, change)
            for _ in range(min(-change, len(pool.idle))):
                actions += self._destroy(pool.idle.pop(0), "more than the app needs")
        if policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return actions

    def _arm(self, instance: Instance) -> None:
        if instance.expires_ms < inf:
            instance.timer_ms = instance.expires_ms
            self._push_timer(instance.expires_ms, instance)

    def _arm_pool(self, pool: Pool) -> None:
        pool.timer_ms = pool.policy.wake_ms
        self._push_timer(pool.timer_ms, pool)

    def _push_timer(self, ring_ms: float, target: Instance | Pool) -> None:
        self._timers.set(ring_ms, target)
        if ring_ms < self.next_wake_ms:
            self.next_wake_ms = ring_ms
