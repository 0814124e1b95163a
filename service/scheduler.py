"""The scheduler: a state machine without I/O. Stimuli go in with their time, actions come out.

It opens no socket, reads no clock, starts no task and draws no random number. Two drivers run it:
the gRPC service (real clock, real platform) and the replay (both simulated), so that what is
evaluated is what runs. The shape is that of h11 and of dask/distributed's worker state machine.

Stimuli are the public methods. Each returns the actions its driver must carry out, in order:

    arrival           a request wants an instance            idle           a request is done
    request_gone      its caller gave up                     wake           `next_wake_ms` has come
    slot_created      CreateSlot answered                    instance_ready Init answered
    start_failed      either of them failed                  slot_destroyed DestroySlot answered
    drain             no new work; idle instances go

Times are milliseconds on any clock that never goes back. A stimulus about an instance that the
scheduler no longer knows, or that no longer fits its state, changes nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from models.policy import Instance, Policy, Pool, State

START_SMOOTHING = 0.3
"""Weight of a new observation in an app's start-up time: start-ups drift, a single one is noise."""


@dataclass(slots=True)
class Assign:
    """Answer the request: it has this instance until its `idle`."""

    request: Hashable
    instance: Instance


@dataclass(slots=True)
class CreateSlot:
    """Ask the platform for a slot; then tell `slot_created` or `start_failed`."""

    instance: Instance


@dataclass(slots=True)
class InitInstance:
    """Start the app in the slot; then tell `instance_ready` or `start_failed`."""

    instance: Instance


@dataclass(slots=True)
class DestroySlot:
    """Give the slot back; then tell `slot_destroyed`."""

    instance: Instance
    reason: str


@dataclass(slots=True)
class Refuse:
    """Answer the request: it gets no instance, for this reason."""

    request: Hashable
    reason: str


Action = Assign | CreateSlot | InitInstance | DestroySlot | Refuse
Actions = Sequence[Action]
_NOTHING: Actions = ()


class Scheduler:
    """Which instance serves a request, when to start one, and how long to keep it."""

    def __init__(self, policy: Policy, *, id_prefix: str = "") -> None:
        """`id_prefix` starts the id of every instance (tells one run's instances from another's)."""
        self.policy = policy
        self.pools: dict[str, Pool] = {}
        self.instances: dict[str, Instance] = {}
        """Every instance whose slot exists or is on its way, until it is destroyed."""
        self.used_mb = 0
        """Memory of those instances."""
        self.draining = False
        self._late = policy.late_binding
        self._id_prefix = id_prefix
        self._started = 0
        self._timers: list[tuple[float, int, Instance | Pool]] = []
        self._timers_set = 0
        self.next_wake_ms = inf
        """When `wake` wants to be called; it may move with any stimulus."""

    # Requests

    def arrival(
        self, now_ms: float, request: Hashable, key: str, memory_mb: int, runtime: str = ""
    ) -> Actions:
        """A request of app `key` wants an instance. `request` must be unique among those open."""
        pool = self.pools.get(key)
        if pool is None:
            pool = self._add_pool(key, memory_mb, runtime)
        elif pool.memory_mb != memory_mb:
            pool.memory_mb = memory_mb  # deployed anew: instances from now on have the new size
        if pool.idle:
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
        if self.draining:
            return (Refuse(request, "the scaler is shutting down"),)
        if self._late:
            pool.waiting.append(request)
            starts = pool.policy.arrival(now_ms, pool)
            if starts <= 0 and not pool.busy and not pool.starting:
                starts = 1  # nothing will ever become free: whatever the policy says, start one
            actions = self._start_many(now_ms, pool, starts)
        else:
            actions = self._start(now_ms, pool, request)
            actions += self._start_many(now_ms, pool, pool.policy.arrival(now_ms, pool))
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
        pool.busy -= 1
        policy.completion(now_ms, pool)
        if need_destroy:
            actions = self._destroy(instance, "the instance is bad")
            actions += self._replace(now_ms, pool)
        elif pool.waiting:
            return (self._bind(instance, pool.waiting.popleft()),)
        elif self.draining:
            return self._destroy(instance, "the scaler is shutting down")
        else:
            instance.state = State.IDLE
            instance.idle_since_ms = now_ms
            pool.idle.append(instance)
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
        pool = self.pools.get(key)
        if pool is None:
            return _NOTHING
        try:
            pool.waiting.remove(request)
        except ValueError:
            for instance in self.instances.values():
                if instance.pool is pool and instance.request == request:
                    if instance.state < State.IDLE:
                        instance.request = None
                    break
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
            return (self._bind(instance, pool.waiting.popleft()),)
        if self.draining:
            return self._destroy(instance, "the scaler is shutting down")
        instance.state = State.IDLE
        instance.idle_since_ms = now_ms
        pool.idle.append(instance)
        instance.expires_ms = pool.policy.ready(now_ms, pool)
        if instance.expires_ms < instance.timer_ms:
            self._arm(instance)
        if pool.policy.wake_ms < pool.timer_ms:
            self._arm_pool(pool)
        return _NOTHING

    def start_failed(
        self, now_ms: float, instance_id: str, reason: str, *, slot_exists: bool
    ) -> Actions:
        """CreateSlot or Init of this instance failed; a slot that exists is given back."""
        instance = self.instances.get(instance_id)
        if instance is None or instance.state > State.INITIALISING:
            return _NOTHING
        pool = instance.pool
        pool.starting -= 1
        request, instance.request = instance.request, None
        actions: list[Action] = []
        if request is not None:
            actions.append(Refuse(request, reason))
        elif pool.waiting and not pool.starting and not pool.busy:
            # Nothing is left that they could wait for, and the next start would likely fail too.
            actions += [Refuse(waiter, reason) for waiter in pool.waiting]
            pool.waiting.clear()
        if slot_exists:
            actions += self._destroy(instance, reason)
        else:
            self._forget(instance)
        return actions

    def slot_destroyed(self, now_ms: float, instance_id: str) -> Actions:
        """The platform took the slot of this instance back."""
        instance = self.instances.get(instance_id)
        if instance is not None and instance.state is State.DESTROYING:
            self._forget(instance)
        return _NOTHING

    # Time

    def wake(self, now_ms: float) -> Actions:
        """Carries out everything due at or before `now_ms`."""
        actions: list[Action] = []
        timers = self._timers
        while timers and timers[0][0] <= now_ms:
            ring_ms, _, target = heappop(timers)
            if isinstance(target, Instance):
                if target.timer_ms != ring_ms:
                    continue  # an earlier timer took its place
                target.timer_ms = inf
                if target.state is State.IDLE:
                    actions += self._expire(now_ms, target)
            elif target.timer_ms == ring_ms:
                target.timer_ms = inf
                actions += self._wake_pool(now_ms, target)
        self.next_wake_ms = timers[0][0] if timers else inf
        return actions

    def drain(self, now_ms: float) -> Actions:
        """No new work: idle instances go now, busy ones when they are done."""
        self.draining = True
        actions: list[Action] = []
        for pool in self.pools.values():
            while pool.idle:
                actions += self._destroy(pool.idle.pop(), "the scaler is shutting down")
        return actions

    def idle_instances(self) -> Iterator[Instance]:
        """Every idle instance."""
        return (instance for pool in self.pools.values() for instance in pool.idle)

    # The rest is how.

    def _add_pool(self, key: str, memory_mb: int, runtime: str) -> Pool:
        pool = Pool(key, memory_mb, self.policy.start_ms(key, memory_mb, runtime))
        pool.policy = self.policy.app(key, memory_mb, runtime)
        self.pools[key] = pool
        return pool

    def _start_many(self, now_ms: float, pool: Pool, count: int) -> list[Action]:
        actions: list[Action] = []
        if not self.draining or pool.waiting:
            for _ in range(count):
                actions += self._start(now_ms, pool, None)
        return actions

    def _start(self, now_ms: float, pool: Pool, request: Hashable | None) -> list[Action]:
        actions: list[Action] = []
        for victim in self.policy.make_room(now_ms, self.used_mb, pool.memory_mb):
            actions += self._destroy(victim.idle.pop(0), "evicted to make room")
        self._started += 1
        instance = Instance(f"{self._id_prefix}{self._started}", pool, now_ms)
        instance.request = request
        pool.starting += 1
        self.instances[instance.id] = instance
        self.used_mb += instance.memory_mb
        actions.append(CreateSlot(instance))
        return actions

    def _replace(self, now_ms: float, pool: Pool) -> list[Action]:
        """Starts an instance if requests wait and the last that could have served them is gone."""
        if pool.waiting and not pool.busy and not pool.starting:
            return self._start(now_ms, pool, None)
        return []

    def _bind(self, instance: Instance, request: Hashable) -> Assign:
        instance.state = State.BUSY
        instance.request = request
        instance.pool.busy += 1
        return Assign(request, instance)

    def _destroy(self, instance: Instance, reason: str) -> list[Action]:
        """Gives back the slot of an instance already taken off its pool's idle ones."""
        instance.state = State.DESTROYING
        return [DestroySlot(instance, reason)]

    def _forget(self, instance: Instance) -> None:
        del self.instances[instance.id]
        self.used_mb -= instance.memory_mb
        instance.state = State.DESTROYING

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
        self._timers_set += 1
        heappush(self._timers, (ring_ms, self._timers_set, target))
        if ring_ms < self.next_wake_ms:
            self.next_wake_ms = ring_ms
