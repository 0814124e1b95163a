"""The objective of a scaler that serves: over gRPC, in its metrics, and over a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.service.running import assign, done, get, scaler, served
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import parse
from warmscaler.service.observability.objective_metrics import objective_metrics
from warmscaler.service.persistence.ledger import Ledger


def test_what_is_asked_for_and_how_far_it_is_met_is_told(tmp_path: Path) -> None:
    policy = Learned(Model(), objective=parse("cold-starts=1%"))
    steering = policy.steering
    assert steering is not None
    steering.age_ms = 1e9  # it has served for long

    async def run() -> None:
        ledger = Ledger(tmp_path / "ledger")
        async with served(policy, ledger=ledger) as here:
            for number in range(3):
                reply = await here.stub.Assign(assign(f"r{number}"))
                await here.stub.Idle(done(reply.assigment))
            found = {each.name: each.samples for each in objective_metrics(lambda: policy)}
        ledger.close()
        assert found["scaler_objective"][0].labels == {"objective": "cold-starts=1%"}
        assert found["scaler_price_seconds_per_gb_second"][0].value == policy.price
        # One of three waited for a start, where one of a hundred may.
        assert found["scaler_objective_used_ratio"][0].value == pytest.approx(100.0 / 3.0, rel=1e-3)
        assert found["scaler_waited_seconds"][0].value > 0.0

    asyncio.run(run())
    assert (steering.requests, steering.starts, steering.queued) == (3.0, 1.0, 0.0)
    again = Learned(Model(), objective=parse("cold-starts=1%"))

    async def restart() -> None:
        ledger = Ledger(tmp_path / "ledger")
        async with served(again, ledger=ledger):
            pass
        ledger.close()

    asyncio.run(restart())
    assert again.steering is not None
    assert again.steering.requests == 3.0
    assert again.steering.controller.log_price == steering.controller.log_price


def test_a_scaler_says_it_from_the_start() -> None:
    with scaler("--objective", "wait-p99=500ms", "--metrics-port", "0") as process:
        assert process.until(r'serves: .* objective="?([^" ]+)"? price=')[1] == "wait-p99=500ms"
        page = process.page
        assert process.address
        _, text = get(f"{page}/metrics")
    assert 'scaler_objective_info{objective="wait-p99=500ms"} 1.0' in text
    assert "scaler_price_seconds_per_gb_second 0.04" in text
