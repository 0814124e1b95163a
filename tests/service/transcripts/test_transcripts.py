"""Each machine does what its transcripts say; with `--rewrite` they say what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.transcripts.scheduler_machine import SchedulerMachine
from tests.service.transcripts.slots_machine import SlotsMachine
from tests.service.transcripts.transcript import Machine, TranscriptError, in_ms, in_words, play

HERE = Path(__file__).parent
MACHINES: dict[str, type[Machine]] = {"scheduler": SchedulerMachine, "slots": SlotsMachine}
"""By the folder of their texts."""
TEXTS = [text for folder in MACHINES for text in sorted((HERE / folder).glob("*.txt"))]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_transcript(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text()
    played = play(text, MACHINES[path.parent.name]())
    if request.config.getoption("--rewrite"):
        if played != text:
            path.write_text(played)
        return
    assert played == text, f"{path} says otherwise: --rewrite, and look at the difference"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_transcript_begins_with_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_another_behaviour_is_another_text() -> None:
    text = "# kept for a minute\nat 0 s: a1 of web is adopted idle\n    web: 1 idle (a1 for ever)\n"
    played = play(text, SchedulerMachine())
    assert played.splitlines()[-1] == "    web: 1 idle (a1 until 1 min)"
    assert play(played, SchedulerMachine()) == played


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("at 1 s: somebody sings", "none of"),
        ("at noon: time passes", "none of"),
        ("at 1 s: time passes\nat 0 s: time passes", "line 2, .*it is 1 s already"),
    ],
)
def test_what_cannot_be_played_is_said(line: str, says: str) -> None:
    with pytest.raises(TranscriptError, match=says):
        play(line, SchedulerMachine())


@pytest.mark.parametrize(
    ("time_ms", "words"),
    [
        (0.0, "0 s"),
        (300.0, "300 ms"),
        (1_000.0, "1 s"),
        (60_900.0, "1 min 0.9 s"),
        (3_600_000.0, "1 h"),
        (90_000_250.0, "1 d 1 h 0.25 s"),
    ],
)
def test_times_in_words(time_ms: float, words: str) -> None:
    assert in_words(time_ms) == words
    assert in_ms(words) == time_ms
