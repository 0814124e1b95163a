"""Transcripts: how a machine without I/O behaves, as a text that one reads, compared whole.

A transcript is a text file. At the margin stands a stimulus with its time; indented below it is all
that came out. A line with `#` is said to the reader; the first ones say what is shown, and why:

    at 0 s: r1 wants web
        create slot i1
        web: 1 starting, 1 waiting

`pytest tests/service/transcripts --rewrite` writes what comes out now into the files; `git diff`
then shows what changed in behaviour. The manner is that of datadriven tests, as in etcd's
`raft/rafttest/testdata`.

To have transcripts of another machine: a subclass of `Machine` with a method for each sentence that
it understands, and a folder of texts; name both in `test_transcripts.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, ClassVar, TypeVar

Method = TypeVar("Method", bound=Callable[..., Iterable[str]])

_UNITS_MS = {"d": 86_400_000.0, "h": 3_600_000.0, "min": 60_000.0, "s": 1_000.0, "ms": 1.0}
_TIME = r"[\d.]+ (?:d|h|min|s|ms)(?: [\d.]+ (?:h|min|s|ms))*"
_AT = re.compile(rf"at ({_TIME}): (.+)")


class TranscriptError(Exception):
    """A text that cannot be played."""


def sentence(pattern: str) -> Callable[[Method], Method]:
    """The method is told by this sentence, a regular expression for the whole of it.

    Its named groups are the method's arguments (a group that is not there: its default), and what
    it returns are the lines that came out.
    """

    def mark(method: Method) -> Method:
        method.sentence = re.compile(pattern)  # type: ignore[attr-defined]
        return method

    return mark


class Machine:
    """A machine behind its transcripts. Stimuli are methods marked with `sentence`."""

    _sentences: ClassVar[list[Callable[..., Iterable[str]]]] = []
    now_ms: float = 0.0
    """The time of the stimulus at hand."""

    def __init_subclass__(cls) -> None:
        known = (method for kind in cls.__mro__ for method in vars(kind).values())
        cls._sentences = [method for method in known if hasattr(method, "sentence")]

    @property
    def next_wake_ms(self) -> float:
        """When it wants to be woken next."""
        return inf

    def wake(self) -> Iterable[str]:
        """Its timer rings, at `now_ms`."""
        return ()

    def changed(self) -> Iterable[str]:
        """What else is to be seen after a stimulus: counts that are not what they were before it."""
        return ()

    @sentence("time passes")
    def time_passes(self) -> Iterable[str]:
        """Nothing but its timers, which ring before every stimulus."""
        return ()

    def pass_time(self, until_ms: float) -> Iterator[str]:
        """Timers ring up to `until_ms`; what came of one before that has its time in front."""
        while self.next_wake_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.next_wake_ms)
            front = f"at {in_words(self.now_ms)}: " if self.now_ms < until_ms else ""
            yield from (front + line for line in self.wake())
        self.now_ms = until_ms

    def hear(self, line: str) -> Iterator[str]:
        """One stimulus, with or without a time. Raises TranscriptError."""
        at = _AT.fullmatch(line)
        if at is not None:
            at_ms = in_ms(at[1])
            if at_ms < self.now_ms:
                raise TranscriptError(f"it is {in_words(self.now_ms)} already")
            yield from self.pass_time(at_ms)
        said = line if at is None else at[2]
        for method in self._sentences:
            match = method.sentence.fullmatch(said)  # type: ignore[attr-defined]
            if match is not None:
                given = {name: text for name, text in match.groupdict().items() if text is not None}
                yield from method(self, **given)
                yield from self.changed()
                return
        known = "\n    ".join(method.sentence.pattern for method in self._sentences)  # type: ignore[attr-defined]
        raise TranscriptError(f"it is none of\n    {known}")


def play(text: str, machine: Machine) -> str:
    """The text with what comes out of `machine` now. Raises TranscriptError."""
    played: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(" "):
            continue
        played.append(line)
        if line and not line.startswith("#"):
            try:
                came_out = list(machine.hear(line))
            except TranscriptError as error:
                raise TranscriptError(f"line {number}, {line!r}: {error}") from None
            played += [f"    {each}" for each in came_out or ["(nothing)"]]
    return "\n".join(played) + "\n"


def in_ms(words: str) -> float:
    """`1 min 0.5 s` is 60500.0."""
    parts = words.split()
    return sum(
        float(number) * _UNITS_MS[unit]
        for number, unit in zip(parts[::2], parts[1::2], strict=True)
    )


def in_words(time_ms: float) -> str:
    """The inverse, to the millisecond."""
    left = round(time_ms)
    parts: list[str] = []
    for unit in ("d", "h", "min"):
        count, left = divmod(left, int(_UNITS_MS[unit]))
        if count:
            parts.append(f"{count} {unit}")
    if left and left < 1_000 and not parts:
        return f"{left} ms"
    if left or not parts:
        parts.append(f"{left / 1_000:.3f}".rstrip("0").rstrip(".") + " s")
    return " ".join(parts)


def values(words: str) -> dict[str, Any]:
    """`slots 4, memory_mb 512` is `{"slots": 4, "memory_mb": 512}`."""
    pairs = (each.split() for each in words.split(", "))
    return {name: float(number) if "." in number else int(number) for name, number in pairs}
