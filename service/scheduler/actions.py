"""What a scheduler tells its driver to do. Data only."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from warmscaler.models.policy import Instance


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
    overload: bool = False
    """A limit is reached: later it may be served. Otherwise its start failed."""


@dataclass(slots=True)
class ForgetApp:
    """Nothing is known of this app any more."""

    key: str


Action = Assign | CreateSlot | InitInstance | DestroySlot | Refuse | ForgetApp
Actions = Sequence[Action]
