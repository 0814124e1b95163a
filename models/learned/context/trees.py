"""LightGBM's text format, read and evaluated without LightGBM: nothing in it is executed.

Evaluation is by bits (C. Lucchese et al., "QuickScorer", SIGIR 2015): a condition that fails takes the
leaves on its left away, and the first leaf that stays in each tree is the one that is reached. What all
conditions on one feature leave of all trees is tabled by where its value lies among their thresholds, so
that a feature is one look-up. For a plan's few dozen rows that is faster than calling the library.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

import numpy as np
import numpy.typing as npt

from warmscaler.models.learned.plan import FloatArray

MOST_TREES = 400
MOST_LEAVES = 8
"""A tree's leaves are bits of a byte."""
MOST_BYTES = 2_000_000
MOST_OFFSET = 50.0
"""Leaves of a log-odds ratio lie far within."""
END = "end of trees"
_ALL = 0xFF


class TreesError(ValueError):
    """A text that is no model of trees that can be evaluated here."""


class Trees:
    """A sum of regression trees over named features: the offset that they add to a log-odds."""

    __slots__ = ("_base", "_fixed", "_leaves", "_varying", "features", "text")

    def __init__(self, text: str, fixed: int = 0) -> None:
        """Of the features the last `fixed` are given once for all rows of a call.

        Raises TreesError for anything but trees on numbers, of at most MOST_LEAVES leaves.
        """
        if len(text) > MOST_BYTES:
            raise TreesError(f"has {len(text):,} characters, at most {MOST_BYTES:,} are read")
        head, *blocks = _blocks(text)
        self.text = text
        self.features = tuple(head.get("feature_names", "").split())
        if head.get("version") != "v4" or head.get("num_class") != "1":
            raise TreesError("is not of LightGBM's text format, version 4, with one class")
        if not 0 < len(blocks) <= MOST_TREES:
            raise TreesError(f"has {len(blocks)} trees: 1 to {MOST_TREES} are read")
        if not 0 <= fixed < len(self.features):
            raise TreesError(f"has {len(self.features)} features, more than {fixed} are wanted")
        trees = [_Tree(block, len(self.features)) for block in blocks]
        self._leaves = np.concatenate([tree.by_bits() for tree in trees])
        self._base = np.arange(len(trees)) * (_ALL + 1)
        tables = [_Conditions(trees, feature) for feature in range(len(self.features))]
        varying = len(self.features) - fixed
        self._varying, self._fixed = tables[:varying], tables[varying:]

    def __call__(self, varying: FloatArray, fixed: Sequence[float] = ()) -> FloatArray:
        """The offset of each row. `varying` has a row a feature, shape (features - fixed, n), `fixed`
        the others, as many. Shape (n,)."""
        left = np.full((varying.shape[1], len(self._base)), _ALL, dtype=np.uint8)
        for conditions, value in zip(self._fixed, fixed, strict=True):
            if conditions.thresholds:
                left[0] &= conditions.stay[bisect_left(conditions.thresholds, value)]
        left[1:] = left[0]
        for conditions, values in zip(self._varying, varying, strict=True):
            if conditions.thresholds:
                left &= conditions.stay[conditions.sorted.searchsorted(values)]
        return np.asarray(self._leaves.take(left + self._base).sum(axis=1))


class _Conditions:
    """All conditions on one feature."""

    __slots__ = ("sorted", "stay", "thresholds")

    def __init__(self, trees: Sequence[_Tree], feature: int) -> None:
        own = [
            (threshold, number, stay)
            for number, tree in enumerate(trees)
            for on, threshold, stay in tree.nodes
            if on == feature
        ]
        self.thresholds = sorted({threshold for threshold, _, _ in own})
        self.sorted = np.array(self.thresholds)
        self.stay: npt.NDArray[np.uint8] = np.full(
            (len(self.thresholds) + 1, len(trees)), _ALL, dtype=np.uint8
        )
        """By how many thresholds the value is above: the leaves that stay in each tree, as bits."""
        for threshold, number, stay in own:
            self.stay[bisect_left(self.thresholds, threshold) + 1 :, number] &= stay


class _Tree:
    """One tree: its leaves from left to right, and for each node the feature, the threshold (not above
    goes left), and as bits the leaves that stay where the condition fails."""

    __slots__ = ("leaves", "nodes")

    def __init__(self, block: Mapping[str, str], features: int) -> None:
        count = _integers(block, "num_leaves", 1)[0]
        if not 1 <= count <= MOST_LEAVES:
            raise TreesError(f"has a tree of {count} leaves, 1 to {MOST_LEAVES} are read")
        if block.get("num_cat") != "0" or block.get("is_linear", "0") != "0":
            raise TreesError("has trees with categories or linear leaves")
        leaves = _floats(block, "leaf_value", count)
        if not all(abs(each) <= MOST_OFFSET for each in leaves):
            raise TreesError("has a leaf that is no log-odds ratio")
        self.leaves: list[float] = []
        self.nodes: list[tuple[int, float, int]] = []
        if count == 1:
            self.leaves = leaves
            return
        inner = count - 1
        on = _integers(block, "split_feature", inner)
        thresholds = _floats(block, "threshold", inner)
        kinds = _integers(block, "decision_type", inner)
        children = [_integers(block, side, inner) for side in ("left_child", "right_child")]
        if not all(0 <= each < features for each in on) or not set(kinds) <= {0, 2}:
            raise TreesError("has a condition on what is no feature, or of another kind")
        seen: set[int] = set()

        def leaves_below(node: int) -> int:
            """Appends the leaves below a node, from the left; returns how many came before them."""
            before = len(self.leaves)
            if node in seen or not -count <= node < inner:
                raise TreesError("has a tree whose branches are none")
            seen.add(node)
            if node < 0:
                self.leaves.append(leaves[~node])
                return before
            leaves_below(children[0][node])
            gone = (1 << len(self.leaves)) - (1 << before)
            self.nodes.append((on[node], thresholds[node], _ALL & ~gone))
            leaves_below(children[1][node])
            return before

        leaves_below(0)
        if len(self.leaves) != count:
            raise TreesError("has a tree with leaves that nothing leads to")

    def by_bits(self) -> FloatArray:
        """The value of the leaf reached, by the leaves that stay, as bits. Shape (256,)."""
        values = np.zeros(_ALL + 1)
        for leaf in reversed(range(len(self.leaves))):
            values[np.arange(_ALL + 1) >> leaf & 1 == 1] = self.leaves[leaf]
        return values


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """The head, then a tree each, as its lines of `name=value`."""
    body, end, _ = text.partition(f"\n{END}")
    if not end or not body.startswith("tree\n"):
        raise TreesError("is not of LightGBM's text format, or cut off")
    for block in body.split("\nTree="):
        yield dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _floats(block: Mapping[str, str], name: str, count: int) -> list[float]:
    try:
        values = [float(each) for each in block.get(name, "").split()]
    except ValueError:
        raise TreesError(f"has a {name} that is no number") from None
    if len(values) != count or not all(map(isfinite, values)):
        raise TreesError(f"has not {count} numbers as {name}")
    return values


def _integers(block: Mapping[str, str], name: str, count: int) -> list[int]:
    values = _floats(block, name, count)
    if not all(each.is_integer() for each in values):
        raise TreesError(f"has a {name} that is no whole number")
    return [int(each) for each in values]
