"""A request that waits for an instance, and how it ends: served, refused, or left by its caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING

from warmscaler.service.proto import scaler_pb2 as pb

if TYPE_CHECKING:
    from warmscaler.service.live.driver import Driver


class Refused(Exception):
    """A request that gets no instance; its text is the reason."""


class Throttled(Refused):
    """A limit is reached: the same request may be served later."""


class Waiting:
    """Ends once, on the event loop, within the call that ends it."""

    __slots__ = (
        "_driver",
        "answer",
        "answered",
        "arrival_ms",
        "context",
        "deadline_ms",
        "enough",
        "looked",
        "meta",
        "request_id",
        "token",
    )

    def __init__(
        self,
        driver: Driver,
        request_id: str,
        meta: pb.Meta,
        token: int,
        arrival_ms: float,
        deadline_ms: float,
    ) -> None:
        """`deadline_ms` is by when its caller wants its answer."""
        self._driver = driver
        self.request_id = request_id
        self.meta = meta
        self.token = token
        self.arrival_ms = arrival_ms
        self.deadline_ms = deadline_ms
        self.context = copy_context()
        """What observers hear of it they hear in the context it came in: its caller's trace."""
        self.answer: str | Refused | None = None
        self.answered: Callable[[str | Refused], None] | None = None
        """Who is told the answer."""
        self.enough: asyncio.TimerHandle | None = None
        """Ends it after the longest wait."""
        self.looked = False
        """That time was over, and one more look at what has arrived was granted."""

    def leave(self) -> None:
        """Its caller is gone. What it may have been given just now is free for the next."""
        self.answered = None
        self._driver.gone(self)

    def settle(self, answer: str | Refused | None) -> None:
        """For the driver: it is over, with an instance's id, a refusal, or without an answer."""
        if self.enough is not None:
            self.enough.cancel()
        self.answer = answer
        if self.answered is not None and answer is not None:
            self.answered(answer)
