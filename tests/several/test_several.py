"""Two scalers behind Envoy: a short run of `make several`, and one that drains."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.clients.caller import calling
from tests.clients.found import grpcio
from tests.clients.stage import stage
from tests.several.envoy import configured, envoy, needs_envoy, shipped
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


@needs_envoy
def test_an_idle_reaches_its_scaler_while_that_drains(tmp_path: Path) -> None:
    """Which fails its checks of health by then."""

    async def run() -> None:
        async with stage() as one, stage() as other:
            before = envoy(tmp_path, [one.port, other.port])
            proxy = await asyncio.to_thread(before.__enter__)
            try:
                async with calling(grpcio(), proxy.address) as caller:
                    assigned = await caller.assign("fast")
                    number = 0 if one.platform.slots else 1
                    ends = asyncio.create_task((one, other)[number].end())
                    await asyncio.to_thread(proxy.until_healthy, {f"scaler-{1 - number}"})
                    # What its checks found is not acted on at once.
                    while (next_one := await caller.assign("fast")).at in ("", assigned.at):
                        pass
                    assert str(await caller.idle(next_one)) == "OK"
                    assert str(await caller.idle(assigned)) == "OK"
                    assert await ends == 0
            finally:
                before.__exit__(None, None, None)

    asyncio.run(run())


def test_only_what_nobody_heard_is_sent_again() -> None:
    config = configured(shipped(), [1, 2], 3, 4)
    [listener] = config["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    [manager] = chain["filters"]
    [host] = manager["typed_config"]["route_config"]["virtual_hosts"]
    [route] = host["routes"]
    assert route["route"]["retry_policy"]["retry_on"] == "connect-failure"
