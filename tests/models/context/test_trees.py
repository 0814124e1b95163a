"""Trees are evaluated as LightGBM evaluates them, and a text that is not one of trees is refused."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.context.boosted import booster
from warmscaler.models.learned.context.trees import MOST_BYTES, Trees, TreesError

NAMES = [f"f{number}" for number in range(9)]


@cache
def sound() -> str:
    return booster(NAMES).model_to_string()


@given(
    seed=st.integers(0, 2**31),
    leaves=st.integers(2, 8),
    fixed=st.integers(0, 8),
    rows=st.integers(1, 40),
)
@settings(max_examples=25, deadline=None)
def test_equals_lightgbm(seed: int, leaves: int, fixed: int, rows: int) -> None:
    made = booster(NAMES, trees=7, leaves=leaves, seed=seed)
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, len(NAMES)))
    values[:, ::3] = np.round(values[:, ::3])
    values[:, len(NAMES) - fixed :] = values[0, len(NAMES) - fixed :]
    trees = Trees(made.model_to_string(), fixed)
    own = trees(values[:, : len(NAMES) - fixed].T, values[0, len(NAMES) - fixed :].tolist())
    expected = made.predict(values, raw_score=True, num_threads=1)
    np.testing.assert_allclose(own, expected, rtol=0.0, atol=1e-12)


def test_values_on_thresholds_and_beyond_all_go_where_lightgbm_sends_them() -> None:
    made = booster(NAMES)
    thresholds = [float(each) for each in re.findall(r"(?<=threshold=).*", sound())[0].split()]
    rows = [*thresholds, *np.nextafter(thresholds, np.inf), -1e300, 1e300, 0.0]
    values = np.repeat(np.array(rows)[:, None], len(NAMES), axis=1)
    np.testing.assert_allclose(
        Trees(sound())(values.T), made.predict(values, raw_score=True), rtol=0.0, atol=1e-12
    )


def test_what_is_kept_of_the_text_is_still_lightgbms() -> None:
    import lightgbm

    kept = sound()[: sound().index("end of trees") + len("end of trees")] + "\n"
    values = np.random.default_rng(1).normal(size=(20, len(NAMES)))
    loaded = lightgbm.Booster(model_str=kept)
    np.testing.assert_array_equal(
        loaded.predict(values, raw_score=True), booster(NAMES).predict(values, raw_score=True)
    )
    assert Trees(kept).features == tuple(NAMES)


@pytest.mark.parametrize(
    ("wrong", "instead", "message"),
    [
        ("tree\n", "three\n", "not of LightGBM's text format"),
        ("end of trees", "", "cut off"),
        ("version=v4", "version=v9", "version 4"),
        ("num_class=1", "num_class=3", "one class"),
        (r"num_leaves=\d+", "num_leaves=9", "leaves"),
        (r"num_leaves=\d+", "num_leaves=x", "no number"),
        (r"num_leaves=\d+", "num_leaves=2.5", "no whole number"),
        ("num_cat=0", "num_cat=1", "categories"),
        ("is_linear=0", "is_linear=1", "categories or linear"),
        (r"leaf_value=\S+", "leaf_value=nan", "leaf_value"),
        (r"leaf_value=\S+", "leaf_value=1e9", "no log-odds"),
        (r"threshold=\S+", "threshold=inf", "threshold"),
        (r"split_feature=\d+", "split_feature=99", "no feature"),
        (r"split_feature=\d+", "split_feature=-1", "no feature"),
        (r"decision_type=\d+", "decision_type=1", "of another kind"),
        (r"left_child=\S+", "left_child=0", "branches"),
        (r"left_child=\S+", "left_child=77", "branches"),
        (r"right_child=\S+", "right_child=-99", "branches"),
        (r"left_child=\S+ ", "left_child=", "left_child"),
    ],
)
def test_a_corrupted_text_is_refused(wrong: str, instead: str, message: str) -> None:
    text = re.sub(wrong, instead, sound(), count=1)
    assert text != sound()
    with pytest.raises(TreesError, match=message):
        Trees(text)


def test_a_text_too_long_or_of_too_many_trees_is_refused() -> None:
    with pytest.raises(TreesError, match="characters"):
        Trees(sound() + " " * MOST_BYTES)
    head, *blocks = sound().partition("\nend of trees")[0].split("\nTree=")
    many = "\nTree=".join([head, *(blocks[:1] * 401)]) + "\nend of trees\n"
    with pytest.raises(TreesError, match="401 trees"):
        Trees(many)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_change_of_the_text_does_worse_than_be_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sound()) - 1))
    changed = sound()[:at] + data.draw(st.characters(max_codepoint=127)) + sound()[at + 1 :]
    try:
        trees = Trees(changed)
    except TreesError:
        return
    values = np.zeros((len(trees.features), 3))
    assert np.isfinite(trees(values)).all()
