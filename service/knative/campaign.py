"""Holds the Lease while it can: the election's bids, written to the API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from warmscaler.service.knative.api import CONFLICT, Api, ApiFailure
from warmscaler.service.knative.election import RETRY_S, Election

log = logging.getLogger("scaler.knative")


@dataclass(slots=True)
class Campaign:
    """Of one candidate for one Lease."""

    api: Api
    election: Election
    namespace: str
    name: str
    elected: Callable[[], None]
    """Told when it leads from now on."""

    def leads(self) -> bool:
        """Whether it may write, now."""
        return self.election.leads(time.monotonic())

    async def run(self) -> None:
        """Until it is cancelled."""
        said: str | None = None
        while True:
            led = self.leads()
            try:
                await self._bid()
                said = None
            except ApiFailure as failure:
                if str(failure) != said:
                    said = str(failure)
                    was_late = failure.status == CONFLICT  # another one was faster
                    log.log(logging.INFO if was_late else logging.WARNING, "no lease: %s", failure)
            if self.leads() != led:
                log.info("it leads" if self.leads() else "it leads no more")
                if self.leads():
                    self.elected()
            await asyncio.sleep(RETRY_S)

    async def _bid(self) -> None:
        # Before it is asked: an answer that is late must not make us lead for longer.
        asked_s = time.monotonic()
        lease = await self.api.lease(self.namespace, self.name)
        spec = self.election.bid(lease, asked_s, time.time())
        if spec is not None:
            await self.api.write_lease(self.namespace, self.name, lease, spec)
            self.election.won(asked_s)

    async def resign(self) -> None:
        """Lets another one lead at once."""
        try:
            lease = await self.api.lease(self.namespace, self.name)
            spec = self.election.resign(lease, time.time())
            if lease is not None and spec is not None:
                await self.api.write_lease(self.namespace, self.name, lease, spec)
        except ApiFailure as failure:
            log.info("the lease is left to run out: %s", failure)
