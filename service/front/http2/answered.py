"""Answers that nobody will read: their caller had cancelled before they came."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TypeAlias

TakeBack: TypeAlias = Callable[[bytes], None]


class Answered:
    """Answers of late that are to be taken back where their caller had cancelled before they came.

    Of all connections together: the latest `most`, or half of them.
    """

    def __init__(self, most: int = 4_096) -> None:
        self._half = most // 2
        self._older: dict[int, tuple[TakeBack, bytes]] = {}
        self._newer: dict[int, tuple[TakeBack, bytes]] = {}
        self._connections = count()

    def connection(self) -> int:
        """A new one; a stream of it is named by the sum of both."""
        return next(self._connections) << 31

    def add(self, stream: int, take_back: TakeBack, answer: bytes) -> None:
        """It is on its way."""
        self._newer[stream] = take_back, answer
        if len(self._newer) > self._half:
            self._older, self._newer = self._newer, {}

    def cancelled(self, stream: int) -> None:
        """Its caller will not read it."""
        known = self._newer.pop(stream, None) or self._older.pop(stream, None)
        if known is not None:
            take_back, answer = known
            take_back(answer)
