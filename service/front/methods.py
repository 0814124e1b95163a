"""What the front serves, whatever carries it: methods that take bytes and give bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from warmscaler.service.front.http2.requests import Code


class Failed(Exception):
    """How a call ends that gets no answer; its text is what its caller reads."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class Later(Protocol):
    """An answer that is not there yet."""

    def leave(self) -> None:
        """Nobody waits for it any more: its caller is gone, or its deadline passed."""


class Caller(ABC):
    """Who waits for the answer of one unary call."""

    __slots__ = ()

    @abstractmethod
    def time_left_s(self) -> float | None:
        """Until its deadline; None if it has none."""

    @abstractmethod
    def settle(self, answer: bytes | Failed) -> None:
        """The answer where it came later: once, and not after it was left."""


@dataclass(frozen=True, slots=True)
class Unary:
    """One message, one answer: at once, or `Later` and told to the caller then. Raises Failed."""

    unary: ClassVar[bool] = True
    path: str
    answer: Callable[[bytes, Caller], bytes | Later]
    at_once: Callable[[bytes], bytes | None] | None = None
    """The same for messages that need nothing else; None, and nothing has happened, for others."""
    refusable: bool = False
    """Whether a call of it may be refused where there are too many."""
    take_back: Callable[[bytes], None] | None = None
    """Told of an answer that its caller will not read: it had cancelled before the answer came."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Any number of messages, any number of answers. Raises Failed."""

    unary: ClassVar[bool] = False
    at_once: ClassVar[None] = None
    refusable: ClassVar[bool] = False
    take_back: ClassVar[None] = None
    path: str
    converse: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


Method: TypeAlias = Unary | Conversation
