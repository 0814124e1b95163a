"""What the life of a slot wants done. Data only: the carrier does it, and tells what came of it.

`name` is the request id of the slot's CreateSlot, which names its life from the intent to the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from warmscaler.service.slots.answers import PlatformError

ODDITIES = ("slot_in_use", "less_memory")
"""What a platform may do that it must not: give a slot that another request has, or one too small."""


class App(NamedTuple):
    """What is started."""

    key: str
    runtime: str
    timeout_s: int
    memory_mb: int


# To write down


@dataclass(slots=True)
class WriteIntent:
    """CreateSlot is about to be sent; then tell `written` or `not_written`."""

    name: str
    instance_id: str
    app: App


@dataclass(slots=True)
class WriteCreated:
    """The slot's id; then tell `written` or `not_written`."""

    name: str
    slot_id: str


@dataclass(slots=True)
class Leaving:
    """The slot may serve nobody any more."""

    name: str


@dataclass(slots=True)
class Erase:
    """There is no such slot any more, or never was."""

    name: str


# To call


@dataclass(slots=True)
class CallCreate:
    """Then tell `made` or `create_failed`."""

    name: str
    memory_mb: int


@dataclass(slots=True)
class CallInit:
    """Then tell `initialised` or `init_failed`."""

    name: str
    slot_id: str
    instance_id: str
    app: App


@dataclass(slots=True)
class CallDestroy:
    """Then tell `destroyed` or `destroy_failed`, with `turn`."""

    name: str
    slot_id: str
    reason: str
    turn: int


@dataclass(slots=True)
class Cancel:
    """Init or DestroySlot of this slot is no longer waited for."""

    name: str


# To tell the scheduler


@dataclass(slots=True)
class TellCreated:
    """The slot of this instance is there: Init it, or destroy it."""

    instance_id: str


@dataclass(slots=True)
class TellReady:
    """The app runs."""

    instance_id: str


@dataclass(slots=True)
class TellFailed:
    """No such instance. A slot that exists is to be destroyed."""

    instance_id: str
    error: PlatformError
    slot_exists: bool
    failures: int
    """In a row, of this start."""
    again_ms: float | None
    """After this pause another start may do better; None: it is not to be tried."""


@dataclass(slots=True)
class TellDestroyed:
    """The slot of this instance is gone."""

    instance_id: str


# To tell people


@dataclass(slots=True)
class Report:
    """A line for the log; `odd` where the platform did what it must not: one of ODDITIES."""

    text: str
    odd: str = ""


Effect = (
    WriteIntent
    | WriteCreated
    | Leaving
    | Erase
    | CallCreate
    | CallInit
    | CallDestroy
    | Cancel
    | TellCreated
    | TellReady
    | TellFailed
    | TellDestroyed
    | Report
)
Effects = list[Effect]
