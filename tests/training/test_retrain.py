"""Retraining: who wins and who does not, what it survives, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.traces import trace_of
from warmscaler.data.generate import generate
from warmscaler.data.recording import COLUMNS, read_recording, write_segment
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import at_price
from warmscaler.training.fitting import fit as fitting
from warmscaler.training.fitting.fit import fit
from warmscaler.training.retraining import retrain as retraining
from warmscaler.training.retraining.drift import drift, stability
from warmscaler.training.retraining.job import job, settled
from warmscaler.training.retraining.judging import more_waiting
from warmscaler.training.retraining.options import Busy, Options, RetrainError
from warmscaler.training.retraining.retrain import checked, retrain

NOW_MS = 1e13
OPTIONS = Options(create_ms=300.0, objective=at_price(0.04))


@pytest.fixture(scope="module")
def log() -> Trace:
    """An hour and a half of controllers: about 4,000 requests of six apps."""
    return generate("contest-1", days=1.5 / 24.0, seed=3)


def run(log: Trace, store: Store, options: Options = OPTIONS, **more: Any) -> dict[str, Any]:
    with job(store) as work:
        return retrain(log, store, options, work, **more)[0]


def record(trace: Trace, folder: Path, segments: int = 4, prefix: str = "20260101") -> None:
    """What a service would have recorded of it."""
    folder.mkdir(exist_ok=True)
    apps = pl.DataFrame(
        {
            "app": [app.key for app in trace.apps],
            "runtime": [app.runtime for app in trace.apps],
            "memory_mb": [app.memory_mb for app in trace.apps],
            "timeout_s": [app.timeout_s for app in trace.apps],
            "init_ms": [app.init_ms for app in trace.apps],
        }
    )
    table = apps[trace.app].with_columns(
        pl.Series("arrival_ms", trace.arrival_ms),
        pl.Series("duration_ms", trace.duration_ms),
        pl.Series("status_code", trace.status_code),
        wait_ms=pl.lit(0.0),
        cold=pl.lit(False),
        outcome=pl.lit("kept"),
        result_code=pl.lit(200, pl.Int64),
        create_ms=pl.lit(300, pl.Int64),
    )
    for number, rows in enumerate(np.array_split(np.arange(len(trace)), segments)):
        minutes, seconds = divmod(number, 60)
        clock = f"{minutes // 60:02d}{minutes % 60:02d}{seconds:02d}"
        name = f"{prefix}T{clock}.000-{number:08x}.parquet"
        write_segment(table[rows.tolist()].select(list(COLUMNS)), folder / name)


def test_the_first_model_beats_a_fixed_window_and_is_promoted(log: Trace, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    result = run(log, store)
    assert result["outcome"] == "promoted"
    pointer = store.pointer()
    assert pointer is not None
    assert pointer.version == result["version"]
    _, manifest = store.read(pointer.version)
    assert manifest["judged"]["challenger"]["score"] > 0.0
    saw_all = manifest["trained_on"]["last_arrival_ms"] > result["held_out_from_ms"]
    assert saw_all == result["refitted"]
    assert manifest["versions"]["numpy"]
    assert len(manifest["code_sha256"]) == 64
    # Nothing changed since: the one in service stays.
    again = run(log, store)
    assert (again["outcome"], again["champion"]) == ("kept", pointer.version)
    told = [note for note in again["notes"] if note.startswith("the champion was trained on some")]
    assert bool(told) == saw_all
    assert store.pointer() == pointer
    assert list((tmp_path / ".retrain").iterdir()) == [tmp_path / ".retrain" / "lock"]


def test_a_dry_run_promotes_nothing(log: Trace, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert run(log, store, dry_run=True)["outcome"] == "would promote"
    assert (store.pointer(), store.versions()) == (None, [])


def test_a_challenger_without_enough_of_a_margin_is_not_promoted(
    log: Trace, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    result = run(log, store, replace(OPTIONS, margin=1.0))
    assert result["outcome"] == "kept"
    assert "100.0% are needed" in result["reason"]
    assert store.versions() == []


def test_a_champion_that_cannot_be_read_is_none(log: Trace, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    version = store.add(Model(), {})
    store.promote(version)
    (tmp_path / "versions" / version / "prior_ms.npy").unlink()
    result = run(log, store)
    assert result["outcome"] == "promoted"
    assert result["notes"][-1].startswith("the champion is not judged")


def test_a_job_that_was_killed_goes_on(
    log: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    fits: list[int] = []
    fit = fitting.fit

    def counted(part: Trace, **more: Any) -> Model:
        fits.append(len(part))
        return fit(part, **more)

    def killed(text: str, _: float) -> None:
        if text == "fitting on everything":
            raise KeyboardInterrupt

    monkeypatch.setattr(retraining, "fit", counted)
    early = log.between(-np.inf, float(log.arrival_ms[-500]))
    recorded = replace(OPTIONS, create_ms=301.0, create_ms_recorded=True)
    with pytest.raises(KeyboardInterrupt):
        run(early, store, recorded, report=killed)
    # More was recorded meanwhile, and what was first is gone: it goes on with what it had.
    later = log.between(float(log.arrival_ms[100]), np.inf)
    slower = replace(later, apps=tuple(replace(app, init_ms=app.init_ms + 1) for app in log.apps))
    result = run(slower, store, replace(recorded, create_ms=302.0))
    assert result["outcome"] == "promoted"
    assert not any((tmp_path / ".retrain").glob("*.parquet"))
    assert len(fits) == 2
    assert len(early) >= fits[1] > fits[0]


def test_only_one_job_at_a_time(log: Trace, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with job(store), pytest.raises(Busy, match="another"), job(store):
        pass
    with job(store):  # it let go
        pass


def flip(folder: Path) -> None:
    """A bit of each segment is another."""
    for file in folder.glob("*.parquet"):
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 0x10
        file.write_bytes(content)


def cut(folder: Path) -> None:
    """The newest segments are torn."""
    for file in sorted(folder.glob("*.parquet"))[-2:]:
        file.write_bytes(file.read_bytes()[:-50])


@pytest.mark.parametrize("spoil", [flip, cut])
def test_damaged_recordings_are_refused(
    log: Trace, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    record(log, tmp_path)
    assert len(read_recording(tmp_path)) == len(log)
    checked(read_recording(tmp_path), tmp_path, NOW_MS)
    spoil(tmp_path)
    with pytest.raises(Exception, match=r"damaged|no readable"):
        checked(read_recording(tmp_path), tmp_path, NOW_MS)


def test_requests_in_the_future_are_left_out(log: Trace, tmp_path: Path) -> None:
    """Four of thousands, from a start with the clock forty days ahead."""
    now_ms = float(log.arrival_ms[-1])
    arrival_ms = log.arrival_ms.copy()
    arrival_ms[-4:] += 40 * 86_400_000
    ahead = replace(log, arrival_ms=arrival_ms)
    record(ahead, tmp_path)
    hour_ms = 3.6e6
    for read in (ahead, read_recording(tmp_path), read_recording(tmp_path, hour_ms, now_ms)):
        good = checked(read, tmp_path, now_ms)
        window = log.between(now_ms - hour_ms, np.inf)
        assert len(good.between(now_ms - hour_ms, np.inf)) == len(window) - 4
        assert [note for note in good.notes if note.startswith("4 requests in the future")]
    assert run(good, Store(str(tmp_path / "store")), replace(OPTIONS, window_ms=hour_ms))["notes"]
    with pytest.raises(RetrainError, match="is the clock here right"):
        checked(log, tmp_path, float(log.arrival_ms[0]) - 1e9)


def test_too_little_is_refused(log: Trace, tmp_path: Path) -> None:
    newest_ms = float(log.arrival_ms[-1])
    with pytest.raises(RetrainError, match="record for longer"):
        run(log.between(newest_ms - 9_000.0, newest_ms), Store(str(tmp_path)))
    short = log.between(-np.inf, float(log.arrival_ms[0]) + 1_200_000.0)
    with pytest.raises(RetrainError, match="held out"):
        run(short, Store(str(tmp_path)))
    with pytest.raises(RetrainError, match="held out"):
        run(log, Store(str(tmp_path)), Options(holdout_ms=5.0 * 3.6e6))


def test_too_little_now_is_no_verdict_on_what_is_recorded_later(log: Trace, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(RetrainError, match="held out"):
        run(log.between(-np.inf, float(log.arrival_ms[0]) + 1_200_000.0), store)
    assert run(log, store)["outcome"] == "promoted"


def test_garbled_values_lose(log: Trace, tmp_path: Path) -> None:
    """Sound files with nonsense in what the challenger learns from; the champion is good."""
    store = Store(str(tmp_path))
    assert run(log, store)["outcome"] == "promoted"
    champion = store.pointer()
    later = generate("contest-1", days=1.5 / 24.0, seed=3)
    chance = np.random.default_rng(0)
    rows = np.arange(len(later)) < len(later) * 0.7
    app, duration_ms = later.app.copy(), later.duration_ms.copy()
    app[rows] = chance.permutation(app[rows])
    duration_ms[rows] = chance.integers(1, 600_000, int(rows.sum()))
    garbled = Trace(later.name, later.apps, later.arrival_ms, app, duration_ms, later.status_code)
    assert run(garbled, store)["outcome"] == "kept"
    assert store.pointer() == champion


def test_what_makes_requests_wait_more_is_not_promoted_by_itself(tmp_path: Path) -> None:
    """The champion believes in slow starts and keeps what it need not: it is dearer, and nobody waits."""
    store = Store(str(tmp_path))
    at_ms = np.cumsum(np.random.default_rng(4).exponential(120_000, 3_000)).astype(int).tolist()
    log = trace_of([(1_700_000_000_000 + at, 0, 2_000) for at in at_ms], memory_mb=(4_096,))
    slow = replace(log, apps=(replace(log.apps[0], init_ms=200_000),))
    keeps_all = fit(slow, create_ms=300.0, price=0.04)
    patient = store.promote(store.add(keeps_all, {}))
    kept = run(log, store)
    judged = kept["judged"]
    assert judged["challenger"]["cost_s"] < judged["champion"]["cost_s"]
    assert judged["challenger"]["wait_s"] > 1.1 * judged["champion"]["wait_s"]
    assert kept["outcome"] == "kept"
    assert "--guard" in kept["reason"]
    assert store.pointer() == patient
    allowed = run(log, store, replace(OPTIONS, guard=np.inf))
    assert allowed["outcome"] == "promoted"


def test_how_much_more_waiting_is_too_much() -> None:
    champion = {"start_rate": 0.01, "wait_s": 100.0}
    more = {"start_rate": 0.0109, "wait_s": 109.0}
    assert more_waiting(more, champion, 0.1) is None
    assert more_waiting(more, champion, 0.05) is not None
    assert "a start" in str(more_waiting({"start_rate": 0.0111, "wait_s": 1.0}, champion, 0.1))
    assert "waiting" in str(more_waiting({"start_rate": 0.0, "wait_s": 111.0}, champion, 0.1))
    assert more_waiting({"start_rate": 1.0, "wait_s": 111.0}, None, 0.1) is None
    assert more_waiting({"start_rate": 1.0, "wait_s": 111.0}, champion, np.inf) is None


def test_settled_leaves_out_what_still_runs(log: Trace, tmp_path: Path) -> None:
    kept, _ = settled(log, tmp_path, OPTIONS, None)
    assert int(log.arrival_ms[-1]) - int(kept.arrival_ms[-1]) >= 120_000
    more = generate("contest-1", days=2.0 / 24.0, seed=3)
    assert len(settled(more, tmp_path, OPTIONS, None)[0]) == len(kept)  # it goes on


def test_requests_that_take_no_time_are_refused(log: Trace, tmp_path: Path) -> None:
    with pytest.raises(RetrainError, match="took any time"):
        run(replace(log, duration_ms=log.duration_ms * 0), Store(str(tmp_path)))


def test_drift_finds_the_app_that_changed(log: Trace) -> None:
    half = float(np.median(log.arrival_ms))
    before, now = log.between(-np.inf, half), log.between(half, np.inf)
    calm = drift(before, now)
    assert (calm.apps_changed, calm.apps_new, calm.apps_gone) == (0, 0, 0)
    of_first = np.flatnonzero(now.app == 0)
    arrival_ms = now.arrival_ms.copy()
    arrival_ms[of_first] = np.linspace(half, float(now.arrival_ms[-1]), len(of_first))
    order = np.argsort(arrival_ms, kind="stable")
    moved = Trace(
        now.name,
        now.apps,
        arrival_ms[order],
        now.app[order],
        now.duration_ms[order],
        now.status_code[order],
    )
    found = drift(before, moved)
    assert found.apps_changed == 1
    assert found.apps[0].app == log.apps[0].key
    assert found.as_json(1)["apps"][0]["gap_psi"] > 0.25


def test_stability_is_zero_for_the_same_and_none_for_too_little() -> None:
    values = np.random.default_rng(1).exponential(100.0, 2_000)
    same, other = stability(values, values), stability(values, values * 5.0)
    assert same == pytest.approx(0.0, abs=1e-9)
    assert other is not None
    assert other > 1.0
    assert stability(values[:5], values) is None
