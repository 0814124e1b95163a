"""Policies by name, as the command line and the service's configuration give them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from math import isfinite

from warmscaler.models.advised.file import AdviceError, read_advice
from warmscaler.models.advised.policy import Advised
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import Objective, ObjectiveError, at_price
from warmscaler.models.policy import Policy
from warmscaler.models.published.cidre import Cidre
from warmscaler.models.published.femux import FeMux
from warmscaler.models.published.fixed import Fixed, Reference
from warmscaler.models.published.greedy_dual import GreedyDual
from warmscaler.models.published.hybrid_histogram import HybridHistogram
from warmscaler.models.published.icebreaker import IceBreaker
from warmscaler.models.published.knative import Knative
from warmscaler.models.published.spes import Spes

KNOWN = (
    "fixed:SECONDS",
    "reference",
    "learned",
    "hybrid-histogram[:RANGE_MINUTES]",
    "greedy-dual:GB",
    "knative[:STABLE_WINDOW_SECONDS]",
    "cidre:GB",
    "femux[:WEIGHT]",
    "spes[:GIVE_UP]",
    "icebreaker[:UTILITY]",
    "advice:FILE",
)

ENTRY_POINTS = "warmscaler.policies"
"""The group of entry points in which a package of one's own names its policies: what an entry names
is called without anything, or with the text after the colon, and returns a Policy."""

_WITH_NUMBER: dict[str, tuple[Callable[[float], Policy], Callable[[], Policy] | None]] = {
    "fixed": (Fixed, None),
    "hybrid-histogram": (HybridHistogram, HybridHistogram),
    "greedy-dual": (GreedyDual, None),
    "knative": (Knative, Knative),
    "cidre": (Cidre, None),
    "femux": (FeMux, FeMux),
    "spes": (Spes, Spes),
    "icebreaker": (IceBreaker, IceBreaker),
}


class PolicyError(ValueError):
    """A policy that cannot be made. Its text is one line: what is wrong and what is known."""


def make_policy(
    name: str,
    model: Model | None = None,
    price: float | None = None,
    *,
    objective: Objective | None = None,
) -> Policy:
    """The policy called `name`, one of `KNOWN`. Raises `PolicyError`.

    `learned` needs a `model`; `price` (seconds of waiting per GB·s) and `objective` are for it alone,
    and without either it goes by the objective that the model was trained for.
    """
    kind, colon, text = name.partition(":")
    if kind == "learned" and not colon:
        if model is None:
            raise PolicyError("the policy learned needs a model: train one, name it with --model")
        if price is not None:
            try:
                objective = at_price(price)
            except ObjectiveError as error:
                raise PolicyError(str(error)) from None
        try:
            return Learned(model, objective=objective)
        except ValueError as error:  # the model's own price
            raise PolicyError(f"the model cannot be used: {error}") from None
    if kind == "reference" and not colon:
        return Reference()
    if kind == "advice" and text:
        try:
            return Advised(read_advice(text))
        except AdviceError as error:
            raise PolicyError(f"the policy {name}: {error}") from None
    if kind in _WITH_NUMBER:
        with_number, without = _WITH_NUMBER[kind]
        if colon:
            return with_number(_number(name, text))
        if without is not None:
            return without()
        raise PolicyError(f"the policy {name} needs a number: {_usage(kind)}")
    own = _installed(kind)
    if own is not None:
        return _made(name, own, text if colon else None)
    known = (*KNOWN, *sorted(entry.name for entry in entry_points(group=ENTRY_POINTS)))
    raise PolicyError(f"there is no policy {name!r}: known are {', '.join(known)}")


def _installed(kind: str) -> EntryPoint | None:
    """The policy of that name which an installed package brings."""
    return next(iter(entry_points(group=ENTRY_POINTS, name=kind)), None)


def _made(name: str, entry: EntryPoint, text: str | None) -> Policy:
    try:
        make = entry.load()
        policy = make() if text is None else make(text)
    except Exception as error:  # whatever it is, it is not ours
        raise PolicyError(
            f"the policy {name} of {entry.value} cannot be made: {type(error).__name__}: {error}"
        ) from None
    if not isinstance(policy, Policy):
        raise PolicyError(
            f"the policy {name}: {entry.value} made a {type(policy).__name__}, no Policy"
        )
    policy.name = policy.name or name
    return policy


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (isfinite(number) and number > 0.0):
        usage = _usage(name.partition(":")[0])
        raise PolicyError(f"the policy {name!r} needs a number above 0: {usage}")
    return number


def _usage(kind: str) -> str:
    return next(known for known in KNOWN if known.partition(":")[0].partition("[")[0] == kind)
