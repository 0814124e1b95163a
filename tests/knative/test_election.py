"""Several candidates for one Lease, whose clocks differ and whose calls fail: never do two lead."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from warmscaler.service.knative.election import LASTS_S, RENEW_S, Election

NAMES = ("a", "b", "c")


class Candidates(RuleBasedStateMachine):
    """A Lease with optimistic locking. Each candidate's clock begins elsewhere; all run as fast."""

    @initialize(starts=st.tuples(*[st.floats(0.0, 1e6)] * len(NAMES)))
    def begin(self, starts: tuple[float, ...]) -> None:
        self.now_s = 0.0
        self.starts = dict(zip(NAMES, starts, strict=True))
        self.elections = {name: Election(name) for name in NAMES}
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.bids: dict[str, tuple[int, Any, float]] = {}

    def clock_s(self, name: str) -> float:
        return self.starts[name] + self.now_s

    @rule(by_s=st.floats(0.1, 20.0))
    def time_passes(self, by_s: float) -> None:
        self.now_s += by_s

    @rule(name=st.sampled_from(NAMES))
    def reads(self, name: str) -> None:
        asked_s = self.clock_s(name)
        spec = self.elections[name].bid(self.lease, asked_s, 1e9 + self.now_s)
        if spec is not None:
            self.bids[name] = self.version, spec, asked_s

    @rule(name=st.sampled_from(NAMES), heard=st.booleans())
    def writes(self, name: str, heard: bool) -> None:
        """However late; the answer may be lost."""
        if name in self.bids:
            version, spec, asked_s = self.bids.pop(name)
            if version == self.version:
                self._store(spec)
                if heard:
                    self.elections[name].won(asked_s)

    @rule(name=st.sampled_from(NAMES))
    def resigns(self, name: str) -> None:
        self.bids.pop(name, None)
        spec = self.elections[name].resign(self.lease, 1e9 + self.now_s)
        if spec is not None:
            self._store(spec)

    def _store(self, spec: dict[str, Any]) -> None:
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}

    @invariant()
    def at_most_one_leads(self) -> None:
        leading = [n for n, each in self.elections.items() if each.leads(self.clock_s(n))]
        assert len(leading) <= 1


TestCandidates = Candidates.TestCase


@given(st.floats(0.0, 1e6))
def test_a_holder_that_is_gone_is_followed(now_s: float) -> None:
    gone = {"holderIdentity": "gone", "leaseDurationSeconds": int(LASTS_S), "leaseTransitions": 3}
    lease = {"metadata": {"resourceVersion": "1"}, "spec": gone}
    election = Election("next")
    assert election.bid(lease, now_s, 1e9) is None
    assert election.bid(lease, now_s + LASTS_S - 0.5, 1e9) is None
    spec = election.bid(lease, now_s + LASTS_S + 0.5, 1e9)
    assert spec is not None
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("next", 4)


def test_it_stops_before_another_may_begin() -> None:
    assert RENEW_S < LASTS_S
