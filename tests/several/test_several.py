"""A short run of `make several`: two scalers behind Envoy, one killed under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.several.envoy import configured, needs_envoy, shipped
from tests.several.scenario import Scenario


@needs_envoy
def test_one_of_two_is_killed(tmp_path: Path) -> None:
    seen = asyncio.run(Scenario(tmp_path, apps=300, callers=8).run(warm_s=0.5, after_s=1.0))
    load = seen.load
    assert load.twice == []
    assert seen.not_in_flight() == []
    assert seen.moved_wrongly == []
    assert len(seen.shares) == 2
    assert min(seen.shares.values()) > 60
    assert set(load.unknown) <= {seen.lost}  # what ran there when it died
    assert 0 < seen.alive == seen.given_back
    assert seen.came_back == seen.shares[seen.lost]
    assert (seen.misuse, seen.left) == (0, 0)


def test_only_what_nobody_heard_is_sent_again() -> None:
    config = configured(shipped(), [1, 2], 3, 4)
    [listener] = config["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    [manager] = chain["filters"]
    [host] = manager["typed_config"]["route_config"]["virtual_hosts"]
    [route] = host["routes"]
    assert route["route"]["retry_policy"]["retry_on"] == "connect-failure"
