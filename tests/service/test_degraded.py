"""A model that is missing or bad: requests are served all the same, and nobody can miss why."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.service.running import assign, done, get, scaler, served, until
from tests.service.test_health import MODEL
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.models.artifact.folder import ArtifactError, write_artifact
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.registry import PolicyError
from warmscaler.service.live.serving_policy import BUILT_IN, choose_policy
from warmscaler.service.persistence.ledger import Ledger
from warmscaler.service.proto import scaler_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")

ABOUT: dict[str, Any] = {"created": "2026-01-01T00:00:00+00:00", "trained_on": {"name": "by-hand"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_artifact(tmp_path / "model", Model(price_s_per_gb_s=0.07), ABOUT)
    return tmp_path / "model"


def test_a_good_model(folder: Path) -> None:
    chosen = choose_policy("learned", folder, strict=True)
    assert chosen.problem is None
    assert isinstance(chosen.policy, Learned)
    assert chosen.policy.price == 0.07
    assert chosen.about["trained_on"] == "by-hand"
    assert chosen.about["version"] != BUILT_IN


DAMAGES = ("gone", "altered", "cut", "another version", "no manifest")


def spoil(folder: Path, damage: str) -> None:
    array = folder / "gaps_ms.npy"
    manifest = folder / "manifest.json"
    if damage == "gone":
        folder.rename(folder.with_name("elsewhere"))
    elif damage == "altered":
        content = bytearray(array.read_bytes())
        content[0] ^= 1
        array.write_bytes(content)
    elif damage == "cut":
        array.write_bytes(array.read_bytes()[:-1])
    elif damage == "another version":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format_version": 99}))
    else:
        manifest.write_text("[]")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_model_degrades(folder: Path, damage: str) -> None:
    spoil(folder, damage)
    chosen = choose_policy("learned", folder)
    assert isinstance(chosen.policy, Learned)
    assert chosen.problem is not None
    assert str(folder) in chosen.problem
    assert "\n" not in chosen.problem
    assert chosen.about["version"] == BUILT_IN
    with pytest.raises(ArtifactError, match="model"):
        choose_policy("learned", folder, strict=True)


@pytest.mark.parametrize("damage", ["gone", "altered", "another version", "price"])
def test_evaluate_refuses_a_bad_model(folder: Path, tmp_path: Path, damage: str) -> None:
    trace = tmp_path / "trace.parquet"
    write_trace(trace_of([(at * 1_000, 0, 20) for at in range(20)]), trace)
    if damage == "price":
        write_artifact(folder, Model(price_s_per_gb_s=-1.0), ABOUT)
    else:
        spoil(folder, damage)
    command = [sys.executable, "-m", "warmscaler", "evaluate", trace, "--policy", "learned"]
    ended = subprocess.run(
        [*map(str, command), "--model", str(folder)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("scaler: ")
    assert "model" in line


def test_a_model_with_a_price_that_cannot_be(tmp_path: Path) -> None:
    write_artifact(tmp_path / "model", Model(price_s_per_gb_s=-1.0), ABOUT)
    chosen = choose_policy("learned", tmp_path / "model")
    assert chosen.problem is not None
    assert "price" in chosen.problem


def test_what_the_operator_got_wrong_is_still_refused(folder: Path) -> None:
    with pytest.raises(PolicyError, match="known are"):
        choose_policy("none-such", folder)


def test_a_degraded_scaler_serves_and_says_so_everywhere(tmp_path: Path) -> None:
    missing = tmp_path / 'mo"del'
    with scaler("--model", missing, "--metrics-port", 0, "--log-format", "json") as process:
        line = json.loads(process.until("DEGRADED").string)
        assert line["level"] == "error"
        assert "there is no such model folder" in line["message"]
        port = json.loads(process.until("serving on port").string)["message"].split()[-1]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = health_pb2.HealthCheckResponse.ServingStatus
            said = {
                name: names.Name(stub.Check(health_pb2.HealthCheckRequest(service=name)).status)
                for name in ("", MODEL)
            }
        assert said == {"": "SERVING", MODEL: "NOT_SERVING"}
        status, body = get(f"{process.page}/healthz")
        assert status == 200
        assert json.loads(body)["status"] == "degraded"
        _, text = get(f"{process.page}/metrics")
        assert 'scaler_degraded{part="model"} 1.0' in text
        assert 'version="built-in"' in text
        assert process.terminate() == 0


def test_a_ledger_that_cannot_be_written_degrades(tmp_path: Path) -> None:
    """What is idle serves on, nothing new is made, and it is told until it is well again."""

    async def run() -> None:
        ledger = Ledger(tmp_path / "ledger")
        async with served(ledger=ledger) as here:
            health = here.server.health
            first = (await here.stub.Assign(assign("r1"))).assigment
            await here.stub.Idle(done(first))
            await ledger.flush()
            database = ledger._database
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            database.execute(f"PRAGMA max_page_count = {pages}")
            other = pb.Meta(key="other", runtime="x" * 500, memory_in_mb=128)

            async def fill() -> None:  # the page there is takes a few
                for number in range(40):
                    await here.stub.Assign(assign(f"o{number}", other))

            with pytest.raises(
                grpc.aio.AioRpcError, match="cannot be written to the ledger"
            ) as failed:
                await fill()
            assert failed.value.code() is grpc.StatusCode.INTERNAL
            await until(lambda: health.status == "degraded")
            assert "full" in health.problems["ledger"]
            again = await here.stub.Assign(assign("r2"))
            assert again.assigment.instance_id == first.instance_id
            database.execute("PRAGMA max_page_count = 1000000")
            assert (await here.stub.Assign(assign("o", other))).status == pb.Ok
            await until(lambda: health.status == "ready")
        ledger.close()

    asyncio.run(run())
