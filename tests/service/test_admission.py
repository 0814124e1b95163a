"""How many calls are answered where a connection sends more than there is time for."""

from __future__ import annotations

from warmscaler.service.front.admission import LEAST_READ_BYTES, READ_BYTES, Admission

TURN_S = 0.004


def shares(admission: Admission, left: list[int], reader: object = "one") -> list[float]:
    """What is answered, read after read, with so much left behind each."""
    return [
        admission.share(reader, turn * TURN_S, READ_BYTES, each) for turn, each in enumerate(left)
    ]


def test_a_burst_is_answered_whole() -> None:
    burst = [300_000, 200_000, 100_000, 0]
    assert shares(Admission(1_000), burst) == [1.0] * 4


def test_a_queue_that_stands_is_refused_by_how_late_it_is() -> None:
    late = READ_BYTES // 8  # half a millisecond at this pace
    seen = shares(Admission(1_000), [200_000] * 6 + [late * each for each in (2, 8, 12, 16, 40)])
    assert seen[:5] == [1.0] * 5
    assert seen[5] == 0.0
    assert seen[6] == 1.0
    assert 1.0 > seen[7] > seen[8] > 0.0
    assert seen[9:] == [0.0, 0.0]


def test_who_was_heard_out_begins_anew() -> None:
    admission = Admission(1_000)
    assert shares(admission, [10**6] * 8 + [0, 10**6, 10**6])[7:] == [0.0, 1.0, 1.0, 1.0]


def test_connections_with_a_queue_share_what_is_read_in_a_turn() -> None:
    admission = Admission(1_000)
    assert len(admission.buffer("quiet")) == READ_BYTES
    for reader in range(4):
        shares(admission, [10**6], reader)
    assert {len(admission.buffer(reader)) for reader in range(4)} == {READ_BYTES // 4}
    assert len(admission.buffer("quiet")) == READ_BYTES
    for reader in range(4, 100):
        shares(admission, [10**6], reader)
    assert len(admission.buffer(3)) == LEAST_READ_BYTES
    for reader in range(1, 100):
        admission.leave(reader)
    assert len(admission.buffer(0)) == READ_BYTES
