"""Log lines: whatever callers send, one event is one line, with an end, and not one too many."""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmscaler.service.observability import logs
from warmscaler.service.observability.logs import (
    BURST,
    LogFormat,
    LogLevel,
    RateLimit,
    configure,
    escaped,
    stderr_in_log,
)

HOSTILE = 'key"\n2026-01-01T00:00:00 CRITICAL scaler forged=1\x1b[2J\u202e\u2028\x00'


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


def test_text_is_one_line_and_quotes_what_is_not_one_word(stream: io.StringIO) -> None:
    configure(LogFormat.TEXT, stream=stream)
    logging.getLogger("scaler").warning("app=%s slot=%s took %.1f s", HOSTILE, "slot-1", 2.5)
    [line] = stream.getvalue().splitlines()
    assert " WARNING scaler app=\"key'\\n2026-01-01T" in line
    assert line.endswith("slot=slot-1 took 2.5 s")
    assert line.isprintable()


def test_json_is_one_object_a_line(stream: io.StringIO) -> None:
    configure(LogFormat.JSON, stream=stream)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("scaler").exception("app=%s", HOSTILE)
    [line] = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields["level"] == "error"
    assert fields["logger"] == "scaler"
    assert fields["message"].isprintable()
    assert all(each.isprintable() for each in fields["exception"])
    assert any("ValueError" in each for each in fields["exception"])


def test_a_traceback_cannot_begin_a_line_of_its_own(stream: io.StringIO) -> None:
    configure(LogFormat.TEXT, stream=stream)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("scaler").exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)


def test_levels(stream: io.StringIO) -> None:
    configure(LogFormat.TEXT, LogLevel.WARNING, stream)
    logging.getLogger("scaler").info("quiet")
    logging.getLogger("scaler").warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_what_repeats_is_counted_not_written(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = [1_000.0]
    monkeypatch.setattr("warmscaler.service.observability.logs.time.monotonic", lambda: clock_s[0])
    configure(LogFormat.TEXT, stream=stream)

    def storm(times: int) -> None:
        for number in range(times):
            logging.getLogger("scaler").warning("slot=%s not given back", number)

    storm(1_000)
    assert len(stream.getvalue().splitlines()) == BURST
    clock_s[0] += logs.REFILL_S
    storm(1_000)
    last = stream.getvalue().splitlines()[BURST:]
    assert len(last) == 1
    assert last[0].endswith(f"slot=0 not given back (and {1_000 - BURST} more like it)")
    logging.getLogger("scaler").warning("another kind")
    assert "another kind" in stream.getvalue()


def test_what_one_place_raises_does_not_hide_another_thing_it_raises(stream: io.StringIO) -> None:
    """All lines of a compiled library come from one place: its end must not be lost among them."""
    configure(LogFormat.TEXT, stream=stream)

    def raised(error: Exception) -> None:
        try:
            raise error
        except Exception as caught:
            logging.getLogger("library").exception(caught)

    for number in range(1_000):
        raised(ValueError(number))
    raised(KeyError("the end"))
    assert "KeyError: 'the end'" in stream.getvalue()


def test_the_rate_limit_is_bounded_itself() -> None:
    limit = RateLimit()
    for number in range(5_000):
        record = logging.LogRecord("a", logging.WARNING, "file", number, "text", None, None)
        assert limit.filter(record)
    assert len(limit._kinds) <= 1_000


def test_a_line_that_cannot_be_formatted_is_written_all_the_same(stream: io.StringIO) -> None:
    configure(LogFormat.TEXT, stream=stream)
    logging.getLogger("scaler").warning("%d of them", "many")
    assert "many" in stream.getvalue()


@given(st.text(st.characters()), st.integers(1, 300))
def test_escaped_prints_and_ends(text: str, limit: int) -> None:
    line = escaped(text, limit)
    assert line.isprintable()
    assert len(line) <= 2 * limit + 40
    line.encode()
    if text.isprintable() and len(text) <= limit:
        assert line == text


def _print_raised(error: Exception) -> None:
    try:
        raise error
    except type(error):
        traceback.print_exc()


def test_a_traceback_that_is_printed_is_an_event_of_the_log(stream: io.StringIO) -> None:
    configure(LogFormat.JSON, stream=stream)
    with stderr_in_log():
        for _ in range(BURST + 40):
            _print_raised(ValueError(HOSTILE.replace("\n", " ")))
        print("a line", HOSTILE, file=sys.stderr)
        sys.stderr.write("begun")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    raised = [each for each in events if "exception" in each]
    assert len(raised) == BURST
    assert all(each["level"] == "error" for each in raised)
    assert any("_print_raised" in line for line in raised[0]["exception"])
    assert all(line.isprintable() for line in raised[0]["exception"])
    assert [each["level"] for each in events if "a line" in each["message"]] == ["warning"]
    assert events[-1]["message"] == "begun"
    assert all(each["message"].isprintable() for each in events)


def test_a_caller_that_went_is_one_line_of_the_log(stream: io.StringIO) -> None:
    class ExecuteBatchError(Exception):
        pass

    configure(LogFormat.TEXT, stream=stream)
    with stderr_in_log():
        for _ in range(BURST + 40):
            _print_raised(ExecuteBatchError("Failed"))
        _print_raised(KeyError("ours"))
    went, ours = stream.getvalue().splitlines()[:BURST], stream.getvalue().splitlines()[BURST:]
    assert all(
        line.endswith("INFO stderr a caller that went before its answer came") for line in went
    )
    assert "ERROR stderr \"KeyError: 'ours'\"" in ours[0]
    assert all(line.startswith("  | ") for line in ours[1:])


def test_a_log_that_cannot_write_says_so_where_it_can(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    stream.close()
    configure(LogFormat.TEXT, stream=stream)
    with stderr_in_log():
        logging.getLogger("scaler").warning("lost")
    assert "closed file" in capsys.readouterr().err
