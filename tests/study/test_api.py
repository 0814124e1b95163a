"""The package as a notebook uses it."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl
import pytest

import warmscaler as ws
from tests.traces import trace_of
from warmscaler.models.published.fixed import Fixed

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/tour.ipynb"


class Twice(ws.Policy):
    """Keeps an instance for twice as long as its last idle time."""

    name = "twice"

    def app(self, key: str, memory_mb: int, runtime: str) -> ws.AppPolicy:
        return _TwiceApp()


class _TwiceApp(ws.AppPolicy):
    def __init__(self) -> None:
        super().__init__()
        self.since_ms, self.gap_ms = 0.0, 60_000.0

    def arrival(self, now_ms: float, pool: ws.Pool) -> int:
        self.gap_ms = now_ms - self.since_ms
        return 0

    def idle(self, now_ms: float, pool: ws.Pool) -> float:
        self.since_ms = now_ms
        return now_ms + 2.0 * self.gap_ms


def make_twice(text: str | None = None) -> ws.Policy:
    policy = Twice()
    policy.name = f"twice:{text}" if text else "twice"
    return policy


def a_trace() -> ws.Trace:
    return trace_of([(k * 45_000, k % 2, 400) for k in range(200)], memory_mb=[128, 256])


@pytest.mark.parametrize(
    "module", ["data.trace", "training.fitting.idle_time_model", "training.study.compare"]
)
def test_doctests(module: str) -> None:
    done = doctest.testmod(import_module(f"warmscaler.{module}"))
    assert done.attempted > 0
    assert done.failed == 0


def test_the_import_is_light_and_every_name_is_there() -> None:
    code = (
        "import sys, warmscaler; heavy = {'numpy', 'polars', 'matplotlib', 'grpc'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "assert set(warmscaler.__all__) <= set(dir(warmscaler));"
        "[getattr(warmscaler, name) for name in warmscaler.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        ws.nosuch  # noqa: B018


def test_frames_of_pandas_and_polars_are_one_trace() -> None:
    import pandas as pd

    at = [datetime(2024, 6, 1, 10, 0, second, 250_000, UTC) for second in (0, 1, 3)]
    columns = {"function": ["a", "b", "a"], "started_at": at, "took_s": [0.12, 0.9, 0.08]}
    extra = {"cold_start_ms": [None, 1_500.0, None], "memory": [512, 256, 512]}
    frames = pl.DataFrame(columns | extra), pd.DataFrame(columns | extra)
    of_polars, of_pandas = (
        ws.Trace.from_frame(frame, init="cold_start_ms", duration="took_s") for frame in frames
    )
    for trace in (of_polars, of_pandas):
        assert trace.arrival_ms.tolist() == [1717236000250, 1717236001250, 1717236003250]
        assert trace.duration_ms.tolist() == [120, 900, 80]
        assert [(app.key, app.memory_mb, app.init_ms) for app in trace.apps] == [
            ("a", 512, 1_500),
            ("b", 256, 1_500),
        ]
    again = ws.Trace.from_frame(of_polars.to_frame())
    assert again.arrival_ms.tolist() == of_polars.arrival_ms.tolist()
    assert [app.memory_mb for app in again.apps] == [512, 256]
    with pytest.raises(ws.TraceError, match=r"^frame: row 2: field `took_s` is empty"):
        ws.Trace.from_frame(pd.DataFrame(columns | {"took_s": [1.0, None, 2.0]}))
    with pytest.raises(ws.TraceError, match="a list is no frame"):
        ws.Trace.from_frame([1])


AT = [datetime(2024, 6, 1, 10, tzinfo=UTC), datetime(2024, 6, 1, 10, 1, tzinfo=UTC)]
CALLS = {"function": ["a", "b"], "start": AT, "duration_ms": [1, 2]}


def test_frames_that_cannot_be_say_so_in_a_line() -> None:
    import pandas as pd

    twice = pd.DataFrame([["a", AT[0], 1, 2]], columns=["function", "start", "took", "took"])
    bad: list[tuple[object, dict[str, Any], str]] = [
        (twice, {}, "two columns are called `took`"),
        ({**CALLS, "start": [1]}, {}, "its columns cannot be taken together"),
        (pl.DataFrame({**CALLS, "function": [["a"], ["b"]]}), {}, r"Trace.from_frame\(frame, app="),
        ({**CALLS, "function": ["a", None]}, {}, "row 2: field `function` is empty"),
        (CALLS, {"apps": {"a": {"memory_mb": 512}}}, "AppFacts"),
        (CALLS, {"apps": {"a": ws.AppFacts(memory_mb=-5)}}, "a: memory_mb -5: must be a whole"),
        (CALLS, {"memory_mb": 512.5}, "512.5: must be a whole number"),
    ]
    for frame, told, says in bad:
        with pytest.raises(ws.TraceError, match=says) as caught:
            ws.Trace.from_frame(frame, **told)
        assert "\n" not in str(caught.value)
    periods = pd.DataFrame(
        {**CALLS, "start": pd.DatetimeIndex(AT).tz_localize(None).to_period("s")}
    )
    assert ws.Trace.from_frame(periods).arrival_ms.tolist() == [
        1_717_236_000_000,
        1_717_236_060_000,
    ]


def test_what_cannot_be_compared_says_so_in_a_line(tmp_path: Path) -> None:
    trace = a_trace()
    asked: list[tuple[object, object, str]] = [
        (trace, [Twice], "the class Twice is no policy: give a name, or an object"),
        (trace, [3], "3 is no policy"),
        (trace, [], "no policy to compare"),
        (trace.to_frame(), ["fixed:60"], "a DataFrame is no trace; make one: ws.read_trace"),
        ("calls.csv", ["fixed:60"], "a str is no trace"),
    ]
    for what, policies, says in asked:
        with pytest.raises((ws.TraceError, ws.PolicyError), match=says):
            ws.compare(what, policies, jobs=1)  # type: ignore[arg-type]
    with pytest.raises(ws.TraceError, match="0 folds: ask for one at least"):
        ws.backtest(trace, ["fixed:60"], folds=0)
    nothing = trace.between(0, 0)
    for use in (ws.fit, lambda it: ws.compare(it, ["fixed:60"]), lambda it: ws.backtest(it, [])):
        with pytest.raises(ws.TraceError, match="no requests in it"):
            use(nothing)
    found = ws.compare(trace, "fixed:60", jobs=1)
    assert found.frame["policy"].to_list() == ["fixed:60"]
    assert repr(found) == repr(found.frame)


def test_compare_ranks_names_and_objects_alike() -> None:
    trace = a_trace()
    mine, known = Twice(), Fixed(300.0)
    found = ws.compare(
        trace, ["fixed:300", "learned", "clairvoyant", mine, known], price=0.03, jobs=1
    )
    frame = found.frame
    assert sorted(frame["policy"]) == sorted(
        ["fixed:300", "learned @ 0.03 s/GB·s", "clairvoyant", "twice", "fixed:300"]
    )
    assert frame["cost_s"].is_sorted()
    twins = frame.filter(pl.col("policy") == "fixed:300")
    assert twins.row(0) == twins.row(1)
    again = ws.compare(trace, [mine], price=0.03, jobs=1).frame
    assert again.row(0) == frame.row(by_predicate=pl.col("policy") == "twice")
    folded = ws.backtest(trace, ["fixed:60", mine], folds=2, jobs=1)
    assert folded.frame["fold"].to_list() == [1, 1, 2, 2]
    assert folded.summary.height == 2
    with pytest.raises(ws.PolicyError, match="there is no policy 'nosuch'"):
        ws.compare(trace, ["nosuch"])


def test_a_comparison_is_a_picture() -> None:
    mpl.use("Agg")
    axes = ws.compare(a_trace(), ["fixed:10", "fixed:60"], jobs=1).plot()
    assert axes.get_xlabel() == "wasted memory, GB·s"
    assert axes.lines


def test_a_policy_by_entry_point(tmp_path: Path) -> None:
    about = tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[warmscaler.policies]\ntwice = tests.study.test_api:make_twice\nbroken = json:loads\n"
    )
    file = tmp_path / "t.parquet"
    ws.write_trace(a_trace(), file)
    command = [sys.executable, "-m", "warmscaler", "evaluate", str(file), "--jobs", "1"]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}

    def evaluate(*policies: str) -> subprocess.CompletedProcess[str]:
        words = [word for policy in policies for word in ("--policy", policy)]
        return subprocess.run(
            [*command, *words, "--json"], capture_output=True, text=True, env=environment
        )

    done = evaluate("twice", "twice:fast", "fixed:10")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["policies"]
    assert [each["policy"] for each in found] == ["twice", "twice:fast", "fixed:10"]
    assert found[0]["wasted_gb_s"] == found[1]["wasted_gb_s"] != found[2]["wasted_gb_s"]
    done = evaluate("broken")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the policy broken of json:loads cannot be made" in done.stderr
    assert "advice:FILE, broken, twice" in evaluate("nosuch").stderr


def test_the_notebook_runs() -> None:
    mpl.use("Agg")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    names: dict[str, object] = {"__name__": "notebook"}
    for cell in code:
        exec(compile(cell, str(NOTEBOOK), "exec"), names)  # noqa: S102 - our own
