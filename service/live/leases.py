"""Instances in use whose Idle may never come: those of callers that vanished, and those that served
when an earlier run ended, which the ledger tells of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from warmscaler.models.policy import State
from warmscaler.service.persistence.ledger import IDLE, LEAVING, STARTING, Ledger
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.actions import Actions
from warmscaler.service.slots.effects import App

if TYPE_CHECKING:
    from warmscaler.service.live.carrying import Carrying

log = logging.getLogger("scaler")

RECLAIM_S = 300.0
"""An instance that served when an earlier run was killed is kept that long for its Idle, where its
app has no timeout of its own."""
OVERDUE_S = 60.0
"""An Idle that long after the app's timeout is not waited for: its caller is gone."""
SWEEP_S = 10.0
STALL_S = 1.0
"""A look that comes so late says that this process stood still: Idles may lie in its sockets."""


class Leases:
    """Beside one driver."""

    def __init__(self, driver: Carrying, reclaim_s: float | None) -> None:
        """`reclaim_s` is after how long in use without an Idle an instance is destroyed, instead of
        its app's timeout and OVERDUE_S."""
        self._driver = driver
        self._reclaim_s = reclaim_s
        self.inherited: dict[str, int] = {}
        """Instances that served when an earlier run ended, and the mark of their request."""
        self._sweeper: asyncio.TimerHandle | None = None

    def sweep(self, due_s: float = inf) -> None:
        """Destroys instances whose Idle is overdue, from now on every so often."""
        every_s = SWEEP_S if self._reclaim_s is None else min(SWEEP_S, self._reclaim_s / 2.0)
        loop = asyncio.get_running_loop()
        late_s = loop.time() - due_s
        if late_s > STALL_S:
            self._driver.slots.stood_still(1000.0 * late_s)
            every_s = min(every_s, STALL_S)
        else:
            self._end_overdue()
        due_s = loop.time() + every_s
        self._sweeper = loop.call_at(due_s, self.sweep, due_s)

    def _end_overdue(self) -> None:
        driver = self._driver
        now_ms = driver.now_ms()
        for instance_id, served in list(driver.serving.items()):
            lease_s = self._reclaim_s
            if lease_s is None:
                timeout_s = served.meta.timeout_in_secs
                lease_s = timeout_s + OVERDUE_S if timeout_s else inf
            if now_ms - served.assigned_ms > 1000.0 * lease_s:
                log.warning(
                    "instance=%s in use for over %d s without an Idle", instance_id, lease_s
                )
                driver.overdue(now_ms, served)

    def recover(self, ledger: Ledger) -> Iterator[tuple[pb.Meta, Actions]]:
        """Takes up what the ledger's earlier run left: idle instances serve again, those that
        served are kept for their Idle for a while, everything else is destroyed. Yields what is
        to be done, by app."""
        driver = self._driver
        slots = driver.slots
        # Those that may serve first: each has its own name, whatever else was made for it.
        for row in sorted(ledger.earlier, key=lambda row: row.mark >= STARTING):
            app = App(row.key, row.runtime, row.timeout_s, row.memory_mb)
            if row.slot_id is None:
                slots.settle(row.request_id, app)
                continue
            instance_id = row.instance_id
            if instance_id in slots.lives.instances:
                instance_id = f"{row.request_id}/late"  # its start went on under another request
            state = {IDLE: State.IDLE, STARTING: State.DESTROYING, LEAVING: State.DESTROYING}.get(
                row.mark, State.BUSY
            )
            if not slots.adopt(
                row.request_id, instance_id, app, row.slot_id, in_use=state is State.BUSY
            ):
                continue
            if state is State.BUSY:
                self.inherited[instance_id] = row.mark
                wait_s = self._reclaim_s if self._reclaim_s is not None else row.timeout_s
                asyncio.get_running_loop().call_later(wait_s or RECLAIM_S, self.end, instance_id)
            meta = pb.Meta(
                key=row.key,
                runtime=row.runtime,
                timeout_in_secs=row.timeout_s,
                memory_in_mb=row.memory_mb,
            )
            yield (
                meta,
                driver.scheduler.adopt(
                    driver.now_ms(), instance_id, row.key, row.memory_mb, row.runtime, state=state
                ),
            )

    def end(self, instance_id: str, *, need_destroy: bool = True) -> None:
        """The Idle of one that was inherited came; or it never will, and whoever had it is gone."""
        if self.inherited.pop(instance_id, None) is not None:
            self._driver.end_idle(instance_id, need_destroy=need_destroy)

    def forget(self, instance_id: str) -> None:
        """It is gone."""
        self.inherited.pop(instance_id, None)

    def clear(self) -> None:
        """No Idle is waited for any more."""
        self.inherited.clear()

    def close(self) -> None:
        """No more looks."""
        if self._sweeper is not None:
            self._sweeper.cancel()
