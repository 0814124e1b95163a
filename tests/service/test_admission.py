"""How many calls are answered where a connection sends more than there is time for."""

from __future__ import annotations

from warmscaler.service.front.admission import LEAST_READ_BYTES, READ_BYTES, Admission

CALLS = 1_000
TURN_S = 0.0025


def turns(
    admission: Admission, emptied: list[bool], reader: object = "one"
) -> list[tuple[bool, int]]:
    """What is said read after read, each of which emptied the socket or not."""
    return [
        admission.read(reader, turn * TURN_S, all_of_it=each) for turn, each in enumerate(emptied)
    ]


def test_a_burst_is_answered_whole() -> None:
    assert turns(Admission(CALLS), [False, False, False, True]) == [
        (True, CALLS),
        (True, CALLS),
        (True, CALLS),
        (False, CALLS),
    ]


def test_a_queue_that_stands_is_refused_with_the_read_that_empties_it() -> None:
    seen = turns(Admission(CALLS), [False] * 6 + [True, False])
    assert [calls for _, calls in seen] == [CALLS, CALLS, CALLS, CALLS, 0, 0, 0, CALLS]


def test_a_queue_is_that_of_one_connection() -> None:
    admission = Admission(CALLS)
    turns(admission, [False] * 6, "many")
    assert admission.read("few", 6 * TURN_S, all_of_it=True) == (False, CALLS)
    assert admission.read("many", 6 * TURN_S, all_of_it=False) == (True, 0)


def test_connections_with_a_queue_share_what_is_read_in_a_turn() -> None:
    admission = Admission(CALLS)
    assert len(admission.buffer("quiet")) == READ_BYTES
    for reader in range(4):
        turns(admission, [False], reader)
    assert {len(admission.buffer(reader)) for reader in range(4)} == {READ_BYTES // 4}
    assert len(admission.buffer("quiet")) == READ_BYTES
    for reader in range(4, 100):
        turns(admission, [False], reader)
    assert len(admission.buffer(3)) == LEAST_READ_BYTES
    for reader in range(1, 100):
        admission.leave(reader)
    assert len(admission.buffer(0)) == READ_BYTES
