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
    InitInstance,
    Refuse,
)
from warmscaler.service.scheduler.deployments import names_another, put_in_force
from warmscaler.service.scheduler.fleet import DEPLOYED_ANEW, Fleet
from warmscaler.service.scheduler.limits import UNLIMITED, Limits
from warmscaler.service.scheduler.timers import Timers

_NOTHING: Actions = ()


class Scheduler:
    """Which instance serves a request, when to start one, and how long to keep it."""

    def __init__(self, policy: Policy, *, id_prefix: str = "", limits: Limits = UNLIMITED) -> None:
        """`id_prefix` starts the id of every instance (tells one run's instances from another's)."""
        self.policy = policy
        self.limits = limits
        self._fleet = fleet = Fleet(policy, id_prefix, limits)
        self.pools = fleet.pools
        self.instances = fleet.instances
        """Every instance whose slot exists or is on its way, until it is destroyed."""
        self.learned: dict[str, bytes] = {}
        """What an earlier run learned of apps that this one has not met yet, by key."""
        self._late, self._by_level = policy.late_binding, policy.by_level
        self._wanting = fleet.wanting
        self._timers = Timers()
        self.next_wake_ms = inf
        """When `wake` wants to be called; it may move with any stimulus."""

    @property
    def used_mb(self) -> int:
        """Memory of all instances."""
        return self._fleet.room.used_mb

    @property
    def waiting(self) -> int:
        """Requests that have no answer yet."""
        return self._fleet.waiting

    @property
    def draining(self) -> bool:
        """`drain` was called."""
        return self._fleet.draining

    def arrival(
        self, now_ms: float, request: Hashable, key: str, memory_mb: int, runtime: str = ""
    ) -> Actions:
        """A request of app `key` wants an instance. `request` must be unique among those open."""
        fleet = self._fleet
        pool = self.pools.get(key)
        if pool is None:
            return self._first_arrival(now_ms, request, key, memory_mb, runtime)
        if memory_mb != pool.memory_mb or runtime != pool.runtime:
            return self._another_deployment(now_ms, request, pool, memory_mb, runtime)
        pool.named_ms = now_ms
        if pool.idle:
            instance = pool.idle.pop()
            instance.state = State.BUSY
            instance.request = request
            instance.taken_ms = now_ms
            pool.busy += 1
            starts = pool.policy.arrival(now_ms, pool)
            if pool.policy.wake_ms < pool.timer_ms:
                self._arm_pool(pool)
            if not starts:
                return (Assign(request, instance),)
            return [Assign(request, instance), *fleet.start_many(now_ms, pool, starts)]
        if (refused := fleet.refusal(request, memory_mb, pool)) is not None:
            return (refused,)
        return self._wait(now_ms, pool, request)

    def is_full_for(self, pool: Pool) -> bool:
        """Whether a request of this app would be refused for a limit if it had to wait."""
        refused = self._fleet.refusal(None, pool.memory_mb, pool)
        return refused is not None and refused.overload

    def _another_deployment(
        self, now_ms: float, request: Hashable, pool: Pool, memory_mb: int, runtime: str
    ) -> Actions:
        """A request that names other memory, or another runtime, than what is in force."""
        fleet = self._fleet
        leaving: list[Action] = []
        if names_another(now_ms, pool, memory_mb, runtime):
            if refused := fleet.refusal(request, memory_mb, pool):
                return (refused,)
            put_in_force(now_ms, pool, memory_mb, runtime)
            if memory_mb != pool.memory_mb:
                fleet.room.resize(pool, memory_mb)
                pool.policy.resized(pool)
            while pool.idle:
                leaving += fleet.evict(now_ms, pool, DEPLOYED_ANEW)
        named_ms = pool.named_ms
        actions = self.arrival(now_ms, request, pool.key, pool.memory_mb, pool.runtime)
        pool.named_ms = named_ms  # the one in force was not named by this request
        return [*leaving, *actions] if leaving else actions

    def _first_arrival(
        self, now_ms: float, request: Hashable, key: str, memory_mb: int, runtime: str
    ) -> Actions:
        limits = self.limits
        if (refused := self._fleet.refusal(request, memory_mb, None)) is not None:
            return (refused,)
        forgotten = self.pools.forget_before(now_ms - limits.forget_ms)
        if len(self.pools) >= limits.apps:
            missed_least = self.pools.forget_one()
            if missed_least is None:
                reason = f"{limits.apps} apps are served already"
                return (Refuse(request, reason, overload=True),)
            forgotten.append(missed_least)
        actions = self._wait(now_ms, self._add_pool(key, memory_mb, runtime), request)
        return [*actions, *self._fleet.forgotten(forgotten)] if forgotten else actions

    def _wait(self, now_ms: float, pool: Pool, request: Hashable) -> Actions:
        fleet = self._fleet
        fleet.waiting += 1
        if not pool.slots:
            self.pools.occupy(pool)
        if self._late:
            pool.waiting[request] = now_ms
            starts = pool.policy.arrival(now_ms, pool)
            if starts <= 0 and not pool.busy and not pool.starting:
                starts = 1  # nothing will ever become free: whatever the policy says, start one
            actions = fleet.start_many(now_ms, pool, starts)
        else:
            actions = fleet.start(now_ms, pool, request)
            actions += fleet.start_many(now_ms, pool, pool.policy.arrival(now_ms, pool))
        if self._wanting:
            actions += fleet.share_room(now_ms)  # the app may have another size now
        if pool.policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return actions

    def idle(self, now_ms: float, instance_id: str, *, need_destroy: bool = False) -> Actions:
        """The request of this instance is done; `need_destroy` if the instance is bad."""
        fleet = self._fleet
        instance = self.instances.get(instance_id)
        if instance is None or instance.state is not State.BUSY:
            return _NOTHING
        pool = instance.pool
        policy = pool.policy
        fleet.done(now_ms, instance, broke=need_destroy)
        if need_destroy:
            actions = fleet.broke(now_ms, instance)
        elif instance.deployment != pool.deployment:
            actions = fleet.outdated(now_ms, instance)
        elif pool.waiting:
            if not self._wanting:
                return (fleet.bind_oldest(now_ms, instance),)
            if not fleet.room.must_yield(pool):
                return [fleet.bind_oldest(now_ms, instance), *fleet.wants_less(now_ms, pool)]
            actions = fleet.destroy(now_ms, instance, "it makes room for another app")
            actions += fleet.replace(now_ms, pool)
        elif self.draining:
            return fleet.destroy(now_ms, instance, "the scaler is shutting down")
        elif self._wanting and fleet.room.short():
            return fleet.destroy(now_ms, instance, "it makes room for another app")
        else:
            instance.state = State.IDLE
            instance.idle_since_ms = now_ms
            pool.idle.append(instance)
            fleet.none_idle = False
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
        return self._fleet.gone(now_ms, key, request)

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
        fleet = self._fleet
        instance = self.instances.get(instance_id)
        if instance is None or instance.state is not State.INITIALISING:
            return _NOTHING
        pool = instance.pool
        pool.starting -= 1
        pool.started_sum_ms -= instance.started_ms
        fleet.starting -= 1
        if instance.deployment == pool.deployment:
            pool.saw_start(now_ms - instance.started_ms)
        if instance.request is not None:
            return (fleet.bind(now_ms, instance, instance.request, instance.started_ms),)
        if instance.deployment != pool.deployment:
            return fleet.outdated(now_ms, instance)
        if pool.waiting:
            return [fleet.bind_oldest(now_ms, instance), *fleet.wants_less(now_ms, pool)]
        if self.draining:
            return fleet.destroy(now_ms, instance, "the scaler is shutting down")
        if self._wanting and fleet.room.short():
            return fleet.destroy(now_ms, instance, "it makes room for another app")
        instance.state = State.IDLE
        instance.idle_since_ms = now_ms
        pool.idle.insert(0 if self._by_level else len(pool.idle), instance)
        fleet.none_idle = False
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
        return self._fleet.failed(now_ms, instance, reason, slot_exists=slot_exists, retry=retry)

    def slot_destroyed(self, now_ms: float, instance_id: str) -> Actions:
        """The platform took the slot of this instance back."""
        instance = self.instances.get(instance_id)
        if instance is not None and instance.state is State.DESTROYING:
            return self._fleet.forget(now_ms, instance)
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
        fleet = self._fleet
        pool = self.pools.get(key)
        if pool is None:
            pool = self._add_pool(key, memory_mb, runtime)
        self.pools.occupy(pool)
        instance = Instance(instance_id, pool, now_ms)
        instance.memory_mb = memory_mb
        if (memory_mb, runtime) != (pool.memory_mb, pool.runtime):
            instance.deployment = -1  # which of them is the newer one nobody knows
            state = State.DESTROYING if state is State.IDLE else state
        fleet.takes_up(now_ms, instance)
        if state is State.BUSY:
            instance.state = State.BUSY
            pool.busy += 1
            pool.policy.arrival(now_ms, pool)
        elif state is State.IDLE:
            instance.state = State.IDLE
            instance.idle_since_ms = now_ms
            pool.idle.insert(0 if self._by_level else len(pool.idle), instance)
            instance.expires_ms = pool.policy.ready(now_ms, pool)
            self._arm(instance)
        else:
            return fleet.destroy(now_ms, instance, "left by an earlier run")
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
        fleet = self._fleet
        fleet.draining = True
        actions: list[Action] = []
        for pool in self.pools.values():
            while pool.idle:
                actions += fleet.evict(now_ms, pool, "the scaler is shutting down")
        return actions

    def go_by(self, policy: Policy) -> None:
        """New apps start from another policy from now on, and what happens is told to its watcher."""
        self.policy = self._fleet.policy = policy
        self._fleet.watcher = policy.watcher

    def idle_instances(self) -> Iterator[Instance]:
        """Every idle instance."""
        return self._fleet.idle_instances()

    # The rest is how.

    def _add_pool(self, key: str, memory_mb: int, runtime: str) -> Pool:
        start_ms, seen = self.policy.start_ms(key, memory_mb, runtime), self.policy.starts_seen(key)
        pool = Pool(key, memory_mb, start_ms, runtime, starts_seen=seen)
        pool.policy = self.policy.app(key, memory_mb, runtime)
        if key in self.learned:
            with suppress(ValueError):  # damaged: the app is new
                self.policy.recall(pool, self.learned.pop(key))
        self.pools[key] = pool
        return pool

    def _expire(self, now_ms: float, instance: Instance) -> list[Action]:
        fleet = self._fleet
        if instance.expires_ms <= now_ms:
            pool = instance.pool
            position = pool.idle.index(instance)
            level = pool.busy + len(pool.waiting) + len(pool.idle) - position
            instance.expires_ms = pool.policy.expiry(now_ms, pool, level)
            if instance.expires_ms <= now_ms:
                del pool.idle[position]
                actions = fleet.destroy(now_ms, instance, "its keep-alive window ended")
                if pool.policy.wake_ms < pool.timer_ms:
                    self._arm_pool(pool)
                return actions
        self._arm(instance)
        return []

    def _wake_pool(self, now_ms: float, pool: Pool) -> list[Action]:
        fleet = self._fleet
        policy = pool.policy
        actions: list[Action] = []
        if policy.wake_ms <= now_ms:
            policy.wake_ms = inf
            change = policy.wake(now_ms, pool)
            if policy.wake_ms <= now_ms:
                policy.wake_ms = now_ms + 1.0  # asked for now, again: rounding, or it would spin
            if change > 0:
                actions = fleet.start_many(now_ms, pool, change)
            for _ in range(min(-change, len(pool.idle))):
                actions += fleet.destroy(now_ms, pool.idle.pop(0), "more than the app needs")
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
