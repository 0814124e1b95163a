"""What carries the front's methods: our own HTTP/2, or grpcio's server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from warmscaler.service.front.methods import Method
from warmscaler.service.front.tls import ServerTls

MAX_MESSAGE_BYTES = 1 << 20
PENDING_CALLS = 1_000


class TransportKind(StrEnum):
    """Which one."""

    OWN = "own"
    GRPCIO = "grpcio"


class PortInUse(Exception):
    """The address cannot be listened on; its text says which."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address}: cannot listen there; is the port in use, or the address not this"
            " machine's?"
        )


@dataclass(frozen=True, slots=True)
class Serving:
    """What a transport needs."""

    address: str
    """HOST:PORT; port 0 lets the system choose."""
    methods: Sequence[Method]
    tls: ServerTls | None = None
    pending_calls: int = PENDING_CALLS
    """Calls that have arrived and are not looked at yet; those beyond are refused."""
    heard: Callable[[str], None] | None = None
    """Is told the `traceparent` of each unary call, or "", just before it is answered."""


class Transport(Protocol):
    """A server on one address."""

    async def start(self) -> int:
        """Listens; the port. Raises PortInUse, TlsError."""

    def drain(self) -> None:
        """Asks who is connected to take new calls elsewhere; whoever does not is still heard."""

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls; those that are open have so long to finish."""

    async def until_ended(self) -> None:
        """Returns once it serves nobody any more, by `stop` or by an error of its own."""
