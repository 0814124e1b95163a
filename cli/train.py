"""`scaler train`: a model from a trace, to a folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Annotated

import typer

from warmscaler.cli.console import counted, progress, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.objective import GbHour, ObjectiveOption, PriceOption, SecondWaited, asked
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
from warmscaler.data.read import read_trace
from warmscaler.models.artifact.folder import ArtifactError, check_target, write_artifact
from warmscaler.models.objectives.words import DEFAULT
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.cluster import ClusterError, connected
from warmscaler.training.fitting.fit import fit
from warmscaler.training.provenance import trained_on

Cluster = Annotated[
    str | None,
    typer.Option(help="A Dask scheduler's tcp://HOST:PORT: work there, where the trace is read."),
]


def _check_lightgbm(asked: bool) -> bool:
    """Raises UserError where it is asked for and cannot be."""
    if asked:
        try:
            import_module("lightgbm")
        except (ImportError, OSError) as error:  # its own library, or libgomp, is not there
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"--context takes LightGBM, which cannot be loaded ({reason}): install libgomp, or"
                " leave it out"
            ) from None
    return asked


WithContext = Annotated[
    bool,
    typer.Option(
        "--context",
        callback=_check_lightgbm,
        help="Learn over all apps, too, what hour, weekday and calls of late say (LightGBM).",
    ),
]

MAX_CREATE_MS = 3_600_000.0
CreateMs = Annotated[
    float, typer.Option(min=0, max=MAX_CREATE_MS, help="Milliseconds that CreateSlot takes.")
]


def train(
    trace: Source,
    out: Annotated[
        Path,
        typer.Option("--out", help="The model's folder; a model there is replaced as a whole."),
    ],
    until: Annotated[
        float, typer.Option(help="Train on this fraction of the trace's span, above 0 to 1.")
    ] = 1.0,
    create_ms: CreateMs = CREATE_MS,
    price: PriceOption = None,
    objective: ObjectiveOption = None,
    gb_hour: GbHour = None,
    second_waited: SecondWaited = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes at once; else one a core.")
    ] = os.cpu_count() or 1,
    context: WithContext = False,
    cluster: Cluster = None,
    set_name: SetName = None,
    roles: Map = None,
    memory_mb: MemoryMb = None,
    init_ms: InitMs = None,
    apps: AppsFile = None,
) -> None:
    """Fits the learned policy's model and writes it with a manifest of what it came from."""
    wanted = asked(price, objective, gb_hour, second_waited) or DEFAULT
    if cluster is not None:
        refuse_layout_on_a_cluster(trace, roles, memory_mb, init_ms, apps)
    if not 0.0 < until <= 1.0:
        raise UserError(f"--until {until:g}: it must lie above 0 and not above 1")
    try:
        check_target(out)
        said = layout(roles, memory_mb, init_ms, apps)
        with connected(cluster, trace, set_name):
            loaded = read_trace(trace, set_name=set_name, layout=said)
            for note in loaded.notes:
                say(f"note: {note}")
            part = loaded if until == 1.0 else loaded.between(-inf, loaded.split_ms(until))
            if not len(part):
                raise UserError(f"{trace}: no request before {until:g} of its span to train on")
            with progress("training", 1) as show:
                model = fit(
                    part,
                    create_ms=create_ms,
                    objective=wanted,
                    jobs=jobs,
                    on_progress=show,
                    context=context,
                )
            if context and model.context is None:
                say(
                    "note: --context: not used, for there is too little to learn it, or it would not pay"
                )
        source = trained_on(part) | {"until": until, "create_ms": create_ms}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        write_artifact(out, model, {"created": created, "trained_on": source})
    except (ArtifactError, ClusterError) as error:
        raise UserError(str(error)) from None
    say(
        f"model of {counted(source['apps'], 'app')} from {counted(len(part), 'request')} written to {out},"
        f" objective {wanted}, price {model.price_s_per_gb_s:.3g} s per GB·s to begin with"
    )
