"""The discrete-time hazard of an idle time's end, boosted with LightGBM from the one that an app's own
remembered idle times give (`init_score`): it learns what those miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold
from sklearn.utils.validation import check_is_fitted

from warmscaler.models.learned.context.ages import BINS, log_survival
from warmscaler.models.learned.context.features import FEATURES, FIXED
from warmscaler.models.learned.context.trees import END, MOST_LEAVES, Trees
from warmscaler.models.learned.plan import FloatArray
from warmscaler.training.fitting.idle_times import IdleTime


class IdleTimeModel(BaseEstimator):  # type: ignore[misc]
    """Chances of when an idle time ends, by its app's past and by the moment.

    The estimator's conventions are scikit-learn's. `X` is what `idle_times` makes of a trace: a sequence
    of n `IdleTime`, one each, with what was known when it began; how long it lasted (`gap_ms`), and
    whether it ended or the trace did, is in it: there is no `y`. Parameters are LightGBM's.

    After `fit` there is `text_`, the trees as LightGBM writes them.

    >>> import numpy as np
    >>> import warmscaler as ws
    >>> told = ws.idle_times(ws.generate("azure", apps=8, days=0.5, seed=1))
    >>> survival = ws.IdleTimeModel(n_estimators=5).fit(told).predict_survival_function(told)
    >>> survival.shape == (len(told), 40) and bool((np.diff(survival) <= 0.0).all())
    True
    """

    def __init__(
        self,
        n_estimators: int = 60,
        learning_rate: float = 0.1,
        num_leaves: int = 8,
        min_child_samples: int = 100,
        reg_lambda: float = 20.0,
        path_smooth: float = 50.0,
        colsample_bytree: float = 0.7,
        random_state: int = 1,
        n_jobs: int = 1,
    ) -> None:
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda
        self.path_smooth = path_smooth
        self.colsample_bytree = colsample_bytree
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Sequence[IdleTime], y: None = None) -> Self:  # noqa: N803
        """Raises ValueError where nothing is given, or more leaves are asked for than are read; ImportError
        or OSError where LightGBM or its libgomp cannot be loaded."""
        if not len(X):
            raise ValueError("there is no idle time to fit on")
        if not 2 <= self.num_leaves <= MOST_LEAVES:
            raise ValueError(f"num_leaves is {self.num_leaves}: from 2 to {MOST_LEAVES}")
        import lightgbm

        features, ends, plain, weights = _rows(X)
        data = lightgbm.Dataset(
            features,
            ends,
            weight=weights,
            init_score=plain,
            feature_name=list(FEATURES),
            free_raw_data=True,
        )
        parameters = {
            "objective": "binary",
            "boost_from_average": False,
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_child_samples,
            "lambda_l2": self.reg_lambda,
            "path_smooth": self.path_smooth,
            "feature_fraction": self.colsample_bytree,
            "max_bin": 127,
            "use_missing": False,
            "seed": self.random_state,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.n_jobs,
            "verbose": -1,
        }
        booster = lightgbm.train(parameters, data, self.n_estimators)
        text = booster.model_to_string()
        self.text_ = text[: text.index(END) + len(END)] + "\n"
        self.trees_ = Trees(self.text_, len(FIXED))
        return self

    def offset(self, X: Sequence[IdleTime]) -> FloatArray:  # noqa: N803
        """What is added to the logit of the plain hazard, by bin of age. Shape (n, BINS)."""
        check_is_fitted(self, "text_")
        return np.array([self.trees_(each.varying, each.fixed.tolist()) for each in X]).reshape(
            len(X), BINS
        )

    def predict_survival_function(self, X: Sequence[IdleTime]) -> FloatArray:  # noqa: N803
        """The chance, in [0, 1], that each lasts beyond each bin of age, shape (n, 40): bin b ends at
        500 ms times e to the power of (b + 1) / 2, from b = 18 on of (b + 19) / 4; the last takes in all
        that is older.
        Raises NotFittedError."""
        plain = np.array([each.plain for each in X]).reshape(len(X), BINS)
        return np.asarray(np.exp(log_survival(plain + self.offset(X))))

    def score(self, X: Sequence[IdleTime], y: None = None) -> float:  # noqa: N803
        """The weighted mean gain in log-likelihood (nats an idle time) over the plain hazard: above 0 it
        knows more. Raises NotFittedError."""
        plain = np.array([each.plain for each in X]).reshape(len(X), BINS)
        weights = np.array([each.weight for each in X])
        gain = log_likelihoods(X, plain + self.offset(X)) - log_likelihoods(X, plain)
        return float(np.average(gain, weights=weights))


def log_likelihoods(of: Sequence[IdleTime], logits: FloatArray) -> FloatArray:
    """Of each idle time, by hazards with these logits, shape (n, BINS). Shape (n,)."""
    ends = np.array([each.last_bin for each in of])
    ended = np.array([each.ended for each in of])
    at = np.arange(len(of))
    # To survive to the end of the bin before, and then to end, or to survive this bin too.
    return np.asarray(log_survival(logits)[at, ends] + np.where(ended, logits[at, ends], 0.0))


def by_app(of: Sequence[IdleTime], folds: int) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Train and test indices such that no app is on both sides."""
    groups = [each.app for each in of]
    folds = min(folds, len(set(groups)))
    return list(GroupKFold(folds).split(groups, groups=groups)) if folds > 1 else []


def _rows(
    of: Sequence[IdleTime],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], FloatArray, FloatArray]:
    """A row for every bin that an idle time reached: features, whether it ended there, the plain
    logit, the weight."""
    lengths = np.array([each.last_bin + 1 for each in of])
    features = np.empty((int(lengths.sum()), len(FEATURES)), dtype=np.float32)
    ends = np.zeros(len(features), dtype=np.float32)
    plain = np.empty(len(features))
    position = 0
    for each, length in zip(of, lengths.tolist(), strict=True):
        rows = slice(position, position + length)
        features[rows, : -len(each.fixed)] = each.varying[:, :length].T
        features[rows, -len(each.fixed) :] = each.fixed
        plain[rows] = each.plain[:length]
        position += length
        ends[position - 1] = each.ended
    weights = np.repeat([each.weight for each in of], lengths)
    return features, ends, plain, weights / weights.mean()
