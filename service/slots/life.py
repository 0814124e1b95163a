"""One slot: where it is in its life, what can happen to it, and the one table of what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf

from warmscaler.service.slots.effects import App


class State(Enum):
    """From the intent to the end. A start whose CreateSlot is slow or failed may have more than
    one slot on its way; the first that is made serves, the others are unwanted."""

    __hash__ = object.__hash__  # Enum's own is Python, and every event looks into the table

    PLANNED = "planned"
    """To be asked for, after a pause."""
    INTENDED = "intended"
    """Its intent is being written down."""
    UNSENT = "unsent"
    """The same, and nobody wants it any more."""
    CREATING = "creating"
    """CreateSlot is sent."""
    UNWANTED = "unwanted"
    """CreateSlot is sent or will be sent again, to be rid of what it made."""
    CREATED = "created"
    """Its id is being written down, or is, and Init was not called."""
    INITIALISING = "initialising"
    READY = "ready"
    IN_USE = "in use"
    DESTROYING = "destroying"
    GONE = "gone"


class Event(Enum):
    """What can happen to a slot."""

    __hash__ = object.__hash__

    DUE = "a time is over"
    WRITTEN = "the ledger has it"
    NOT_WRITTEN = "the ledger cannot be written"
    MADE = "CreateSlot did"
    NOT_MADE = "CreateSlot failed"
    INIT = "the scheduler wants the app in it"
    INITIALISED = "Init did"
    NOT_INITIALISED = "Init failed"
    TAKEN = "a request has it"
    FREED = "no request has it"
    DROP = "nobody wants what CreateSlot makes"
    DESTROY = "the scheduler wants it gone"
    DESTROYED = "DestroySlot did"
    NOT_DESTROYED = "DestroySlot failed"


S, E = State, Event
TRANSITIONS: dict[tuple[State, Event], str] = {
    (S.PLANNED, E.DUE): "intend",
    (S.PLANNED, E.DROP): "drop_planned",
    (S.INTENDED, E.WRITTEN): "ask",
    (S.INTENDED, E.NOT_WRITTEN): "cannot_ask",
    (S.INTENDED, E.DROP): "drop_intended",
    (S.UNSENT, E.WRITTEN): "end",
    (S.UNSENT, E.NOT_WRITTEN): "end",
    (S.CREATING, E.MADE): "have",
    (S.CREATING, E.NOT_MADE): "miss",
    (S.CREATING, E.DUE): "ask_another",
    (S.CREATING, E.DROP): "drop_asked",
    (S.UNWANTED, E.MADE): "have_unwanted",
    (S.UNWANTED, E.NOT_MADE): "miss_unwanted",
    (S.UNWANTED, E.DUE): "ask_again",
    (S.CREATED, E.WRITTEN): "tell_created",
    (S.CREATED, E.NOT_WRITTEN): "tell_created",
    (S.CREATED, E.INIT): "initialise",
    (S.CREATED, E.DESTROY): "give_back",
    (S.INITIALISING, E.INITIALISED): "be_ready",
    (S.INITIALISING, E.NOT_INITIALISED): "fail",
    (S.INITIALISING, E.DUE): "fail_late",
    (S.INITIALISING, E.DESTROY): "give_back",
    (S.READY, E.TAKEN): "taken",
    (S.READY, E.FREED): "freed",
    (S.READY, E.DESTROY): "give_back",
    (S.IN_USE, E.FREED): "freed",
    (S.IN_USE, E.DESTROY): "give_back",
    (S.DESTROYING, E.DUE): "give_back_again",
    (S.DESTROYING, E.DESTROYED): "be_gone",
    (S.DESTROYING, E.NOT_DESTROYED): "not_gone",
}
"""What is not here changes nothing: an answer that comes too late, twice, or of another call. The
right side names a method of `Lives`."""


@dataclass(slots=True, eq=False)
class Life:
    """One slot, by the CreateSlot that makes it."""

    name: str
    app: App
    instance_id: str | None
    """Whose slot it is or is to be; None where it is nobody's."""
    state: State = State.PLANNED
    slot_id: str = ""
    """Empty until it is known."""
    unsure: bool = False
    """CreateSlot failed so that it may have made the slot all the same."""
    sent_ms: float = 0.0
    """When it was called last."""
    calling: bool = False
    """CreateSlot, to be rid of what it makes, or DestroySlot is under way."""
    failures: int = 0
    """In a row, of getting rid of it."""
    turn: int = 0
    """How often DestroySlot was called: of an earlier call the answer does not count."""
    reason: str = ""
    """Why it is destroyed."""
    first_try: bool = False
    """Its first DestroySlot is under way."""
    in_lane: bool = False
    """It holds one of the few places for DestroySlots that are tried again."""
    due_ms: float = inf
    """When it wants to be looked at."""
    looked: bool = False
    """That time was over, and one more look at what has arrived was granted."""


@dataclass(slots=True, eq=False)
class Start:
    """An instance on its way to its slot."""

    instance_id: str
    app: App
    failures: int
    """In a row, those of the starts before it too."""
    names: int = 0
    """How many CreateSlots of its own it has had."""
    looks: int = 0
    """How often its CreateSlot was found to be slow."""
    lives: list[Life] = field(default_factory=list)
    """The slots that may become its own, the latest last."""
