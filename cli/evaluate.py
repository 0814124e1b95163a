"""`scaler evaluate`: policies side by side on one trace, learned only from what comes before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from warmscaler.cli import duel as duels
from warmscaler.cli import frontier as frontiers
from warmscaler.cli.console import print_json, print_wide, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.folds import figures_json, print_table, run
from warmscaler.cli.objective import ObjectiveOption, SecondWaited, asked
from warmscaler.cli.pages import Pages, check_pages, check_target, draw
from warmscaler.cli.replicas import PLACES, PLATFORM, ReplicaOptions, SaveForecast, Statsforecast
from warmscaler.cli.replicas import check as check_replicas
from warmscaler.cli.replicas import run as run_replicas
from warmscaler.cli.trace import (
    AppsFile,
    InitMs,
    Map,
    MemoryMb,
    SetName,
    Source,
    layout,
    refuse_layout_on_a_cluster,
)
from warmscaler.cli.train import Cluster, CreateMs, WithContext
from warmscaler.data.read import read_trace
from warmscaler.models.artifact.folder import ArtifactError, read_artifact, read_manifest
from warmscaler.models.objectives.words import DEFAULT
from warmscaler.models.registry import KNOWN, PolicyError
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.cluster import ClusterError, connected
from warmscaler.training.evaluating import evaluate as evaluation
from warmscaler.training.evaluating.evaluate import Window
from warmscaler.training.evaluating.frontier import Frontier
from warmscaler.training.evaluating.frontier import as_json as frontier_json
from warmscaler.training.evaluating.outcomes import OutcomesError, write_outcomes
from warmscaler.training.evaluating.settings import (
    BASELINE,
    CLAIRVOYANT,
    DEFAULT_POLICIES,
    LEARNED,
    chosen,
)
from warmscaler.training.evaluating.settings import sweep as all_settings
from warmscaler.training.replicas.judge import GPU_GB

SPLIT = 0.5


def evaluate(
    trace: Source,
    split: Annotated[
        float, typer.Option(help="Where measuring starts, a fraction of the span, in (0, 1).")
    ] = SPLIT,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join((*KNOWN, CLAIRVOYANT))}; may be repeated. Else:"
            f" {', '.join(DEFAULT_POLICIES)}."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A trained model; else one is trained before the split.")
    ] = None,
    create_ms: CreateMs = CREATE_MS,
    price: Annotated[
        list[float] | None,
        typer.Option(
            help="For learned: seconds of waiting a GB·s is worth; it stays as it is. With --replicas"
            " it may be repeated."
        ),
    ] = None,
    objective: ObjectiveOption = None,
    second_waited: SecondWaited = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes at once; else one a core.")
    ] = os.cpu_count() or 1,
    context: WithContext = False,
    cluster: Cluster = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Besides, every setting of their knobs.")
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(min=1, help="So many rolling splits instead of --split: mean and spread."),
    ] = None,
    frontier: Annotated[
        bool,
        typer.Option(
            "--frontier",
            help="Instead: learned at seven prices against the best of the others in hindsight.",
        ),
    ] = False,
    protocol: Annotated[
        str | None,
        typer.Option(help="Instead: femux, every policy by FeMux's measure (starts of 808 ms)."),
    ] = None,
    replicas: Annotated[
        bool,
        typer.Option(
            "--replicas",
            help="Instead: replicas ahead of time against the reactive rules of Knative and KEDA.",
        ),
    ] = False,
    platform: Annotated[
        str,
        typer.Option("--on", help="For --replicas: what runs under our floors, knative or keda."),
    ] = PLATFORM,
    places: Annotated[
        int,
        typer.Option("--container-concurrency", help="For --replicas: requests a replica serves."),
    ] = PLACES,
    gpu_gb: Annotated[
        float, typer.Option(help="For --replicas: from this memory on a replica counts as a GPU.")
    ] = GPU_GB,
    save_forecast: SaveForecast = None,
    statsforecast: Statsforecast = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    outcomes: Annotated[
        Path | None, typer.Option(help="*.parquet to write: a row per measured request.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="*.html to write: a self-contained page.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="*.svg to write: waiting against wasted memory.")
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="The policy that learned is told against.")
    ] = BASELINE,
    gb_hour: Annotated[
        float | None,
        typer.Option(help="What a GB·h of memory costs: for --report, or with --second-waited."),
    ] = None,
    said: Annotated[
        list[str] | None,
        typer.Option(
            "--note", help="For --report: what to know of the trace, such as what was drawn."
        ),
    ] = None,
    set_name: SetName = None,
    roles: Map = None,
    memory_mb: MemoryMb = None,
    init_ms: InitMs = None,
    apps: AppsFile = None,
) -> None:
    """Replays policies on a trace, and shows what each costs from the split on.

    Scores are out of 100; waste is in GB·s (1 GB is 1024 MB), waiting in seconds.
    """
    if cluster is not None:
        refuse_layout_on_a_cluster(trace, roles, memory_mb, init_ms, apps)
    if not 0.0 < split < 1.0:
        raise UserError(f"--split {split:g}: it must lie between 0 and 1")
    if not replicas and len(price or ()) > 1:
        raise UserError("--price: several go with --replicas; give one")
    for each in price or ():
        asked(each)
    wanted = asked(
        price[0] if price else None, objective, gb_hour, second_waited, gb_hour_alone=True
    )
    if folds is not None and split != SPLIT:
        raise UserError("--folds splits by itself: leave out --split")
    if folds is not None and (outcomes or report or picture):
        raise UserError("--folds gives figures only: leave out --outcomes, --report, --picture")
    if outcomes is not None and sweep:
        raise UserError("--outcomes goes with one setting a policy: leave out --sweep")
    if context and (model or frontier or replicas or protocol):
        raise UserError("--context: leave out --model, --frontier, --replicas, --protocol")
    if frontier and (policy or wanted or sweep or folds or outcomes or report or picture):
        raise UserError(
            "--frontier has policies and prices of its own, and gives figures only: it goes with"
            " --split, --model, --create-ms, --jobs, --cluster, --json"
        )
    steered = objective or gb_hour is not None or second_waited is not None
    own = policy or model or cluster or sweep or folds or frontier or outcomes or said
    if replicas and (own or steered or baseline != BASELINE):
        raise UserError(
            "--replicas has rules of its own: it goes with --split, --price, --create-ms, --on,"
            " --container-concurrency, --gpu-gb, --statsforecast, --json"
        )
    own_create = create_ms != CREATE_MS
    if protocol is not None:
        others = (policy, model, wanted, sweep, folds, frontier, replicas, own_create)
        duels.check_protocol(protocol, (*others, outcomes, report, picture))
    pages = Pages(report, picture, baseline, gb_hour, said or ())
    check_pages(pages)
    check_target("--outcomes", outcomes, ".parquet")
    options = ReplicaOptions(
        split, create_ms, platform, places, gpu_gb, save_forecast, statsforecast
    )
    check_replicas(options, asked=replicas)
    if replicas:
        if report or picture:
            raise UserError("--replicas gives figures only: leave out --report, --picture")
        loaded = read_trace(
            trace, set_name=set_name, layout=layout(roles, memory_mb, init_ms, apps)
        )
        for note in loaded.notes:
            say(f"note: {note}")
        run_replicas(loaded, price, options, json=json)
        return
    try:
        settings = chosen(_with_baseline(policy or DEFAULT_POLICIES, baseline), objective=wanted)
        trained = None if model is None else read_artifact(model)
        columns = layout(roles, memory_mb, init_ms, apps)
        with connected(cluster, trace, set_name):
            loaded = read_trace(trace, set_name=set_name, layout=columns)
            for note in loaded.notes:
                say(f"note: {note}")
            if sweep:
                settings = all_settings(settings, loaded)
            parts = (
                [evaluation.window(loaded, split)]
                if folds is None
                else evaluation.folds(loaded, folds)
            )
            if model is not None:
                _warn_if_it_saw_the_answer(model, parts[0])
            if protocol is not None:
                duels.show(duels.run(parts[0], jobs), json=json)
                return
            if frontier:
                _show_frontier(frontiers.run(parts[0], trained, create_ms, jobs), json=json)
                return
            done = [
                run(
                    part,
                    settings,
                    trained,
                    create_ms,
                    jobs,
                    keep_requests=outcomes is not None,
                    keep_replays=report is not None,
                    baseline=baseline,
                    objective=wanted or DEFAULT,
                    context=context,
                )
                for part in parts
            ]
        if outcomes is not None:
            write_outcomes(outcomes, parts[0], done[0].measured)
        draw(done[0], pages, trace=trace, create_ms=create_ms)
    except (ArtifactError, ClusterError, PolicyError, OutcomesError) as error:
        raise UserError(str(error)) from None
    if json:
        print_json(figures_json(loaded, split, create_ms, done, in_folds=folds is not None))
    else:
        print_table(loaded, done, baseline)


def _with_baseline(policies: Sequence[str], baseline: str) -> Sequence[str]:
    if baseline in (LEARNED, CLAIRVOYANT):
        raise UserError(f"--baseline {baseline}: learned is told against a policy that it is not")
    if baseline == BASELINE or baseline in policies:
        return policies
    return (baseline, *policies)


def _show_frontier(found: Frontier, *, json: bool) -> None:
    if json:
        print_json(frontier_json(found))
    else:
        print_wide(frontiers.table_of([found]))


def _warn_if_it_saw_the_answer(model: Path, first: Window) -> None:
    trained_on = read_manifest(model)["trained_on"]
    same = trained_on["name"] == first.trace.name
    if same and trained_on["last_arrival_ms"] >= first.split_ms:
        say(f"warning: {model} was trained on requests after the split: figures flatter it")
