"""The instances of all apps: started where there is room, bound to requests, given back."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from warmscaler.models.policy import Instance, Policy, Pool, State, Wait
from warmscaler.service.scheduler.actions import (
    Action,
    Assign,
    CreateSlot,
    DestroySlot,
    ForgetApp,
    Refuse,
)
from warmscaler.service.scheduler.apps import Apps
from warmscaler.service.scheduler.limits import Limits, Room

APP_SHARE = 4
"""An app may have so many times as many requests waiting, and instances on their way, as others still
may: those whose starts or requests hang leave room for the next. Choudhury and Hahne, "Dynamic queue
length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998."""
DEPLOYED_ANEW = "its app was deployed anew, with other memory or runtime"


class Fleet:
    """What the scheduler's stimuli change; its methods return the actions that follow."""

    def __init__(self, policy: Policy, id_prefix: str, limits: Limits) -> None:
        self.policy = policy
        self.watcher = policy.watcher
        self.pools = Apps()
        self.instances: dict[str, Instance] = {}
        """Every instance whose slot exists or is on its way, until it is destroyed."""
        self.waiting = 0
        """Requests that have no answer yet."""
        self.starting = 0
        """Instances on their way."""
        self.draining = False
        self.bound: dict[Hashable, Instance] = {}
        """The start that each request waits for, where it waits for one in particular."""
        self.room = Room(limits)
        self.wanting = self.room.wanting
        self.none_idle = False
        """No instance is idle, and none was since room began to be wanted."""
        self._oldest: list[Instance] = []
        """Instances that were idle when room was wanted, the least recently idle last."""
        self._limits = limits
        self._id_prefix = id_prefix
        self._started = 0

    def idle_instances(self) -> Iterator[Instance]:
        """Every idle instance."""
        return (instance for pool in self.pools.values() for instance in pool.idle)

    def refusal(self, request: Hashable, memory_mb: int, pool: Pool | None) -> Refuse | None:
        """Why a request may not wait; `pool` is its app, where that is known."""
        limits = self._limits
        waiting, starting = (len(pool.waiting), pool.starting) if pool is not None else (0, 0)
        if self.draining:
            return Refuse(request, "the scaler is shutting down")
        if self.waiting >= limits.waiting:
            reason = f"{limits.waiting} requests wait already"
        elif self.starting >= limits.starting:
            reason = f"{limits.starting} instances are being started already"
        elif starting >= APP_SHARE * (limits.starting - self.starting):
            reason = f"{starting} instances of this app are being started already"
        elif waiting >= min(limits.waiting_per_app, APP_SHARE * (limits.waiting - self.waiting)):
            reason = f"{waiting} requests of this app wait already"
        elif memory_mb > limits.memory_mb:
            reason = f"the app needs {memory_mb} MB and there are only {limits.memory_mb}"
        else:
            return None
        return Refuse(request, reason, overload=True)

    def start_many(self, now_ms: float, pool: Pool, count: int) -> list[Action]:
        """Starts so many instances of an app that no request is bound to."""
        actions: list[Action] = []
        if not self.draining or pool.waiting:
            for _ in range(count):
                actions += self.start(now_ms, pool, None)
        return actions

    def start(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        """Starts an instance, for `request` if that is to be bound to it, or waits for room."""
        room = self.room
        if self.wanting or room.full_for(pool) or not room.has(pool.memory_mb):
            return self._find_room(now_ms, pool, request)
        return self._make(now_ms, pool, request)

    def _make(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        room = self.room
        if not pool.slots:
            self.pools.occupy(pool)
        actions: list[Action] = []
        for victim in self.policy.make_room(now_ms, room.used_mb, pool.memory_mb):
            actions += self.destroy(now_ms, victim.idle.pop(0), "evicted to make room")
        self._started += 1
        instance = Instance(f"{self._id_prefix}{self._started}", pool, now_ms)
        if request is not None:
            instance.request = request
            self.bound[request] = instance
            pool.bound += 1
        pool.starting += 1
        pool.started_sum_ms += now_ms
        self.starting += 1
        self.takes_up(now_ms, instance)
        actions.append(CreateSlot(instance))
        return actions

    def takes_up(self, now_ms: float, instance: Instance) -> None:
        """There will be a slot of this instance, or there is."""
        self.instances[instance.id] = instance
        self.room.takes(instance)
        if self.watcher is not None:
            self.watcher.started(now_ms, instance)

    def _find_room(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        """A start that a limit forbids, or before which others want room: its request waits, and
        others' idle instances make room."""
        if request is not None:
            pool.waiting[request] = now_ms
            if not pool.slots:
                self.pools.occupy(pool)
        wanted = self.wanting.get(pool, 0)
        if self.room.full_for(pool) or wanted >= self.without_start(pool):
            return []  # its own instances will serve; or it was a pre-warm only
        if not self.wanting:
            self._oldest, self.none_idle = [], False
        self.room.want(pool)
        return self.share_room(now_ms)

    def share_room(self, now_ms: float) -> list[Action]:
        """What is idle makes room for those that want it, who have it in turn."""
        actions: list[Action] = []
        while self.room.short() and (oldest := self._least_recently_idle()) is not None:
            actions += self.evict(now_ms, oldest, "it makes room for another app")
        return actions + self._use_room(now_ms)

    def _least_recently_idle(self) -> Pool | None:
        """The app whose `idle[0]` was used least recently of all."""
        while not self.none_idle:
            while self._oldest:
                pool = self._oldest.pop().pool
                if pool.idle:
                    return pool
            self._oldest = sorted(self.idle_instances(), key=lambda each: -each.idle_since_ms)
            self.none_idle = not self._oldest
        return None

    def _use_room(self, now_ms: float) -> list[Action]:
        """Room came free: those that want it have it in turn."""
        room = self.room
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

    def wants_less(self, now_ms: float, pool: Pool) -> list[Action]:
        """A request of the app waits no more, or has a start now: the room that it wanted, if it
        did, is for the next in turn."""
        if pool not in self.wanting:
            return []
        self.room.wants_at_most(pool, self.without_start(pool))
        return self._use_room(now_ms)

    @staticmethod
    def without_start(pool: Pool) -> int:
        """Requests that wait without a start of the app being under way for each."""
        return max(0, len(pool.waiting) - (pool.starting - pool.bound))

    def gone(self, now_ms: float, key: str, request: Hashable) -> list[Action]:
        """The caller of a request that waits gave up; its start goes on for the next."""
        instance = self.bound.pop(request, None)
        if instance is not None:
            instance.request = None
            instance.pool.bound -= 1
            self.waiting -= 1
            return self.wants_less(now_ms, instance.pool)
        pool = self.pools.get(key)
        if pool is None or request not in pool.waiting:
            return []
        pool.policy.gone(now_ms, pool, pool.waiting.pop(request))
        self.waiting -= 1
        self.vacate(now_ms, pool)
        return self.wants_less(now_ms, pool)

    def failed(
        self, now_ms: float, instance: Instance, reason: str, *, slot_exists: bool, retry: bool
    ) -> list[Action]:
        """A start failed; with `retry` a request that waits for it gets another."""
        pool = instance.pool
        pool.starting -= 1
        pool.started_sum_ms -= instance.started_ms
        self.starting -= 1
        request, instance.request = instance.request, None
        actions: list[Action] = []
        if request is not None:
            del self.bound[request]
            pool.bound -= 1
        if not retry:
            actions += self.refuse_waiters(now_ms, pool, request, reason)
        if slot_exists:
            actions += self.destroy(now_ms, instance, reason)
        else:
            self._released(now_ms, instance)
            actions += self.forget(now_ms, instance)
        if retry:
            return actions + self.start_again(now_ms, pool, request)
        return actions + self.replace(now_ms, pool)

    def start_again(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        """A start failed and another may do better, for `request` where it was bound to that one."""
        if request is not None and pool.idle:
            return [self.bind(now_ms, pool.idle.pop(), request, now_ms)]  # one went idle meanwhile
        if request is not None or self.without_start(pool):
            return self.start(now_ms, pool, request)
        return self.replace(now_ms, pool)

    def replace(self, now_ms: float, pool: Pool) -> list[Action]:
        """Starts an instance if requests wait and the last that could have served them is gone."""
        if pool.waiting and not pool.busy and not pool.starting and pool not in self.wanting:
            return self.start(now_ms, pool, None)
        return []

    def broke(self, now_ms: float, instance: Instance) -> list[Action]:
        """An instance is bad, and its request done: whether another takes its place its policy says."""
        pool = instance.pool
        actions = self.destroy(now_ms, instance, "the instance is bad")
        actions += self.replace(now_ms, pool)
        return actions + self.start_many(now_ms, pool, pool.policy.broke(now_ms, pool))

    def outdated(self, now_ms: float, instance: Instance) -> list[Action]:
        """An instance that is free or ready, of a deployment that is not in force any more, goes;
        a request that might have had it gets a start."""
        actions = self.destroy(now_ms, instance, DEPLOYED_ANEW)
        if self.without_start(instance.pool) and instance.pool not in self.wanting:
            actions += self.start(now_ms, instance.pool, None)
        return actions

    def bind(
        self, now_ms: float, instance: Instance, request: Hashable, arrived_ms: float
    ) -> Assign:
        """Gives an instance that just became free or ready to a request that waits."""
        if instance.state < State.IDLE and instance.request is not None:
            del self.bound[request]
            instance.pool.bound -= 1
        self.waiting -= 1
        # It had begun to serve the request before this one when this one came.
        queued = instance.state is State.BUSY and instance.taken_ms <= arrived_ms
        instance.state = State.BUSY
        instance.request = request
        instance.taken_ms = now_ms
        instance.wait = Wait(arrived_ms, now_ms, queued)
        instance.pool.busy += 1
        instance.pool.policy.served(now_ms, instance.pool, arrived_ms)
        return Assign(request, instance)

    def done(self, now_ms: float, instance: Instance, *, broke: bool = False) -> None:
        """The request of a busy instance is done; what becomes of the instance is to be decided."""
        pool = instance.pool
        instance.request = None
        instance.idle_since_ms = 0.0
        pool.busy -= 1
        wait, instance.wait = instance.wait, None
        pool.policy.completion(now_ms, pool, wait)
        if self.watcher is not None:
            self.watcher.done(now_ms, instance, wait, broke=broke)

    def bind_oldest(self, now_ms: float, instance: Instance) -> Assign:
        """Gives it to the request of its app that waits the longest."""
        return self.bind(now_ms, instance, *instance.pool.waiting.popitem(last=False))

    def refuse_waiters(
        self, now_ms: float, pool: Pool, request: Hashable | None, reason: str
    ) -> list[Action]:
        """A start failed: `request`, which was bound to it, and who waits for nothing now."""
        if request is not None:
            return [self.refuse(request, reason)]
        if not pool.waiting or pool in self.wanting:
            return []
        if not pool.starting and not pool.busy:
            # Nothing is left that they could wait for, and the next start would likely fail.
            return [self._refuse_oldest(now_ms, pool, reason) for _ in range(len(pool.waiting))]
        if len(pool.waiting) > pool.starting - pool.bound + pool.busy:
            return [self._refuse_oldest(now_ms, pool, reason)]
        return []

    def _refuse_oldest(self, now_ms: float, pool: Pool, reason: str) -> Refuse:
        waiter, arrived_ms = pool.waiting.popitem(last=False)
        pool.policy.gone(now_ms, pool, arrived_ms)
        return self.refuse(waiter, reason)

    def refuse(self, request: Hashable, reason: str) -> Refuse:
        """Takes a request off those that wait."""
        self.waiting -= 1
        return Refuse(request, reason)

    def evict(self, now_ms: float, pool: Pool, reason: str) -> list[Action]:
        """Takes the least recently idle instance of an app away, against its policy's word."""
        instance = pool.idle.pop(0)
        pool.policy.evicted(now_ms, pool)
        return self.destroy(now_ms, instance, reason)

    def destroy(self, now_ms: float, instance: Instance, reason: str) -> list[Action]:
        """Gives back the slot of an instance already taken off its pool's idle ones."""
        self._released(now_ms, instance)
        instance.state = State.DESTROYING
        self.room.leaves(instance)
        return [DestroySlot(instance, reason)]

    def _released(self, now_ms: float, instance: Instance) -> None:
        if self.watcher is not None:
            self.watcher.released(now_ms, instance)

    def forget(self, now_ms: float, instance: Instance) -> list[Action]:
        """There is no slot of this instance any more."""
        del self.instances[instance.id]
        self.room.frees(instance, was_leaving=instance.state is State.DESTROYING)
        instance.state = State.DESTROYING
        actions = self._use_room(now_ms) if self.wanting else []
        self.vacate(now_ms, instance.pool)
        return actions

    def forgotten(self, keys: Sequence[str]) -> list[ForgetApp]:
        """These apps are not known any more."""
        if self.watcher is not None:
            for key in keys:
                self.watcher.forgotten(key)
        return [ForgetApp(key) for key in keys]

    def vacate(self, now_ms: float, pool: Pool) -> None:
        """Its app may be forgotten from now on, where nothing is left of it."""
        if not pool.slots and not pool.waiting and self.pools.get(pool.key) is pool:
            self.pools.vacate(now_ms, pool)
