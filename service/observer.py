"""What the driver tells those who only look: the metrics, the recording."""

from __future__ import annotations

from dataclasses import dataclass

from warmscaler.models.policy import Instance, Pool
from warmscaler.service.proto import scaler_pb2 as pb


@dataclass(slots=True)
class Served:
    """A request that was given an instance. Times are the driver's clock, in milliseconds."""

    request_id: str
    meta: pb.Meta
    instance: Instance
    arrival_ms: float
    assigned_ms: float
    cold: bool
    """It found no idle instance on arrival, whatever served it in the end."""
    queued: bool = False
    """Of those: the instance that served it was busy when it came, it waited for no start."""
    assigment: bytes = b""
    """What its Idle will name, as bytes, where that is known."""


class Observer:
    """Told of everything, on the event loop, after it happened. Does nothing by itself.

    A method must return at once and never raise: it stands in the path of a request.
    """

    def assigned(self, served: Served) -> None:
        """A request got its instance."""

    def waits(self, now_ms: float, pool: Pool, starts: int, *, first: bool) -> None:
        """A request found no idle instance: `starts` were begun for it, already in `pool`, and
        `first` says that its app was not known before."""

    def completed(self, now_ms: float, served: Served, result: pb.Result) -> None:
        """Its Idle came."""

    def overdue(self, now_ms: float, served: Served) -> None:
        """Its Idle did not come in time: the instance will be destroyed."""

    def refused(
        self, now_ms: float, meta: pb.Meta, arrival_ms: float, reason: str, *, overload: bool
    ) -> None:
        """A request gets no instance; `overload` where a limit is why, not a failure."""

    def gone(self, now_ms: float, meta: pb.Meta, arrival_ms: float) -> None:
        """A request's caller went away before its answer."""

    def slot_created(self, now_ms: float, instance: Instance) -> None:
        """The platform made a slot."""

    def instance_ready(self, now_ms: float, instance: Instance) -> None:
        """An app runs in its slot."""

    def start_failed(self, now_ms: float, instance: Instance, reason: str) -> None:
        """CreateSlot or Init failed."""

    def slot_released(self, now_ms: float, instance: Instance, reason: str) -> None:
        """The scheduler gives a slot back: it is no longer used from now on."""

    def slot_destroyed(self, now_ms: float, instance: Instance) -> None:
        """The platform took a slot back."""
