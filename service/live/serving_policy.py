"""The policy to serve with: the one asked for, or a built-in one where its model is no good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from warmscaler.models.artifact.folder import ArtifactError, read_whole
from warmscaler.models.artifact.followed_folder import FollowedFolder, name_of
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import DEFAULT, Objective
from warmscaler.models.policy import Policy
from warmscaler.models.registry import make_policy
from warmscaler.service.persistence.follow import Follower, trained_until_ms

LEARNED = "learned"
BUILT_IN = "built-in"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What will serve. `problem` says why it is not what was asked for; None if it is."""

    policy: Policy
    about: Mapping[str, str]
    """For people and metrics: policy, version, created, trained_on."""
    problem: str | None = None


def choose_policy(
    name: str,
    folder: Path | None = None,
    objective: Objective | None = None,
    *,
    strict: bool = False,
) -> Chosen:
    """The policy `name`, with the model in `folder` if it learns.

    It goes by `objective`, else by the one the model was trained for. A model that is missing or bad
    does not keep requests from being served: the learned policy then starts from its built-in prior
    and learns from what it sees. With `strict` it raises ArtifactError instead. Raises PolicyError for a
    policy that there is not.
    """
    if name != LEARNED:
        return Chosen(make_policy(name), _about(name))
    built_in = make_policy(name, model=Model(objective=DEFAULT), objective=objective)
    try:
        if folder is None:
            raise ArtifactError("no model is named: train one, name it with --model")
        read, manifest = read_whole(folder)
        policy = make_policy(name, model=read, objective=objective)
        if isinstance(policy, Learned):
            policy.until_ms = trained_until_ms(manifest)
    except ArtifactError as error:
        problem = str(error)
    except Exception as error:  # whatever is wrong with a model, requests must be served
        problem = f"{folder}: is no model that can be used ({type(error).__name__}: {error})"
    else:
        trained_on = manifest.get("trained_on")
        return Chosen(
            policy,
            _about(
                name,
                version=name_of(manifest),
                created=str(manifest.get("created", "")),
                trained_on=str(trained_on.get("name", "")) if isinstance(trained_on, dict) else "",
            ),
        )
    if strict:
        raise ArtifactError(problem)
    return Chosen(built_in, _about(name), problem)


def mend_later(
    chosen: Chosen, folder: Path | None, objective: Objective | None = None
) -> Follower | None:
    """Who takes up the model in `folder` once it is whole; None where there is nothing to mend."""
    if chosen.problem is None or folder is None:
        return None
    follower = Follower(FollowedFolder(folder), objective=objective, once=True)
    follower.problem, follower.meanwhile = chosen.problem, chosen.about
    return follower


def follow_store(
    location: str,
    folder: Path | None = None,
    objective: Objective | None = None,
    *,
    strict: bool = False,
) -> tuple[Chosen, Follower]:
    """What the store at `location` has in service, and who keeps to it from then on.

    Where that is nothing, or no good, the newest version before it serves, else the model in
    `folder`, else the built-in prior. With a good model in `folder` a store where nothing was
    promoted yet is as it should be; else, with `strict`, it raises ArtifactError. Raises StoreError
    where there can be no store.
    """
    follower = Follower(Store(location), objective=objective)
    policy: Policy = follower.first()
    if follower.version is None and folder is not None:
        meanwhile = choose_policy(LEARNED, folder, objective, strict=strict)
        policy, follower.meanwhile = meanwhile.policy, meanwhile.about
        if follower.empty:
            follower.problem = meanwhile.problem
    if strict and follower.problem is not None:
        raise ArtifactError(follower.problem)
    return Chosen(policy, follower.about(), follower.problem), follower


def _about(
    policy: str, version: str = BUILT_IN, created: str = "", trained_on: str = ""
) -> dict[str, str]:
    return {
        "policy": policy,
        "version": version,
        "created": created,
        "trained_on": trained_on,
    }
