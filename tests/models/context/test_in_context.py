"""Where time of day tells, plans in context cost less; where they are not used nothing changes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.models.context.boosted import booster
from tests.models.context.habits_trace import office_hours
from tests.traces import trace_of
from tests.training.test_honesty import decisions, other_future
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.folder import ArtifactError, read_artifact, write_artifact
from warmscaler.models.learned.app import LearnedApp
from warmscaler.models.learned.context.account import Account
from warmscaler.models.learned.context.app import InContext
from warmscaler.models.learned.context.context import Context
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Pool
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.evaluating.evaluate import window
from warmscaler.training.fitting.fit import fit

PRICE = 0.002


@cache
def trace() -> Trace:
    return office_hours()


@cache
def model() -> Model:
    return fit(window(trace(), 0.5).training, create_ms=300.0, price=PRICE, context=True)


def cost_s(of: Model) -> float:
    done = figures(trace(), replay(trace(), Learned(of), create_ms=300.0), trace().split_ms(0.5))
    return done.wait_s + PRICE * done.wasted_gb_s


def test_where_the_hour_tells_it_pays() -> None:
    found = model().context
    assert found is not None
    assert found.new_apps_gain > 0.02
    assert cost_s(model()) < 0.95 * cost_s(replace(model(), context=None))


def test_where_it_is_not_used_it_decides_nothing() -> None:
    text = booster(trees=30).model_to_string()
    part = trace().between(0.0, trace().split_ms(0.2))
    plain = Learned(Model(PRICE))
    unused = Learned(replace(plain.model, context=Context(text, new_apps_gain=-1.0)))
    used = Learned(replace(plain.model, context=Context(text, new_apps_gain=1.0)))
    assert decisions(part, unused) == decisions(part, plain)
    assert decisions(part, used) != decisions(part, plain)


def test_decisions_in_context_depend_on_nothing_later() -> None:
    from_ms = trace().split_ms(0.25)
    part = trace().between(0.0, trace().split_ms(0.4))
    changed = other_future(part, from_ms)
    before, after = (
        [line for line in decisions(each, Learned(model())) if line[0] < from_ms]
        for each in (part, changed)
    )
    assert before
    assert before == after


def test_a_short_trace_teaches_none() -> None:
    rows = [(k * 30_000, k % 2, 200) for k in range(2_000)]
    short = trace_of(rows, memory_mb=[128, 256])
    assert fit(short, create_ms=300.0, price=PRICE, context=True).context is None


def test_unless_asked_for_none_is_learned() -> None:
    part = window(trace(), 0.5).training
    plain = fit(part, create_ms=300.0, price=PRICE)
    assert plain.context is None
    for name, array in plain.arrays().items():
        np.testing.assert_array_equal(array, model().arrays()[name])


def test_round_trip(tmp_path: Path) -> None:
    write_artifact(tmp_path / "model", model(), {})
    read, written = read_artifact(tmp_path / "model").context, model().context
    assert read is not None
    assert written is not None
    assert read.trees.text == written.trees.text
    assert read.new_apps_gain == written.new_apps_gain
    assert all(read.gain(app.key) == written.gain(app.key) for app in trace().apps)
    size = sum(file.stat().st_size for file in (tmp_path / "model").iterdir())
    assert size < 1_000_000


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "not of LightGBM's text format"),
        (["a", "b", "c"], "features"),
        ([f"f{n}" for n in range(40)], "on other features"),
        ("ä", "ascii"),
    ],
)
def test_a_folder_with_other_trees_is_refused_in_one_line(
    tmp_path: Path, wrong: str | list[str], says: str
) -> None:
    text = wrong if isinstance(wrong, str) else booster(wrong).model_to_string()
    altered = replace(model(), context=_Told(text))  # type: ignore[arg-type]
    write_artifact(tmp_path / "model", altered, {})
    with pytest.raises(ArtifactError, match=says) as error:
        read_artifact(tmp_path / "model")
    assert "\n" not in str(error.value)


class _Told:
    """A context of any text."""

    def __init__(self, text: str) -> None:
        self.trees, self.new_apps_gain = self, 0.1
        self.text = text

    def gain(self, key: str) -> float:
        return 0.1


def test_another_model_takes_over_what_was_learned() -> None:
    plain = Learned(replace(model(), context=None))
    pool = Pool("app-0", 1_024, 5_000.0)
    pool.policy = plain.app("app-0", 1_024, "")
    levels = [list(level.gaps) for level in pool.policy.levels]  # type: ignore[attr-defined]
    for policy, kind in ((Learned(model()), InContext), (plain, LearnedApp)):
        policy.adopt(pool, 0.0)
        assert type(pool.policy) is kind
        assert [list(level.gaps) for level in pool.policy.levels] == levels


def test_an_account_follows_what_it_sees() -> None:
    account = Account(0.03)
    assert account.pays
    for _ in range(400):
        account.add(100.0, 150.0)
    assert not account.pays
    for _ in range(2_000):
        account.add(100.0, 60.0)
    assert account.pays
    assert not Account(-0.01).pays
