"""The line that a scaler begins with: what serves, since when it is trained, where, and what it keeps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy

DAY_S = 86_400.0


def announce(
    log: logging.Logger, policy: Policy, about: Mapping[str, str], places: Mapping[str, object]
) -> None:
    """One line, `NAME=VALUE` each; what there is not is left out.

    `about` is policy, version, created and trained_on of the model; `places` address, ledger and such.
    """
    told = {
        "version": _version(),
        "policy": policy.name,
        "objective": getattr(policy, "objective", None),
        "price": getattr(policy, "price", None),
        "model": about.get("version") if policy.name == Learned.name else None,
        "trained_on": about.get("trained_on"),
        "model_age_days": age_days(about.get("created", ""), datetime.now(UTC)),
        **places,
    }
    said = {name: each for name, each in told.items() if each is not None and each != ""}
    log.info("serves: " + " ".join(f"{name}=%s" for name in said), *said.values())


def age_days(created: str, now: datetime) -> float | None:
    """How old a model of `created` (ISO 8601) is; None where that is no time."""
    try:
        made = datetime.fromisoformat(created)
    except ValueError:
        return None
    if made.tzinfo is None:
        made = made.replace(tzinfo=UTC)
    return round((now - made).total_seconds() / DAY_S, 1)


def _version() -> str:
    try:
        return version("warmscaler")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
