"""`scaler knative`: floors under Knative's Revisions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from warmscaler.cli.errors import UserError
from warmscaler.cli.following import (
    ForecastFile,
    History,
    Interval,
    forecast_of,
    overrides_of,
    prometheus_of,
    seconds_of,
)
from warmscaler.cli.health import host_of
from warmscaler.cli.listening import (
    LOCAL,
    LeastLogged,
    LogLines,
    MetricsHost,
    MetricsPort,
)
from warmscaler.service.knative.api import ALL, NoCluster, cluster
from warmscaler.service.knative.controller import FloorOptions
from warmscaler.service.knative.serving import KnativeOptions, run_until_signal
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.looking.told import PLAIN, Defaults, ToldError, read
from warmscaler.service.observability.logs import LogFormat, LogLevel, configure, stderr_in_log
from warmscaler.service.observability.page import PageInUse

log = logging.getLogger("scaler")
PLAIN_LOOKS = LookingOptions()
QUERY = (
    'sum(kn_revision_concurrency_panic{k8s_namespace_name="{namespace}",'
    'kn_revision_name="{revision}"})'
)
"""Knative's own measure of the last seconds, as its autoscaler exports it from 1.20 on."""


def knative(
    prometheus: Annotated[str, typer.Option(help="Prometheus' URL.")],
    query: Annotated[
        str,
        typer.Option(
            help="Requests at once of a Revision; {namespace} and {revision} are its own."
        ),
    ] = QUERY,
    namespace: Annotated[
        str | None, typer.Option(help="Revisions of this namespace only; else of all.")
    ] = None,
    start_s: Annotated[
        float,
        typer.Option("--start", min=0, max=86_400, help="Seconds that a pod takes to be ready."),
    ] = 10.0,
    memory_mb: Annotated[
        float, typer.Option(min=1, max=2**24, help="Memory of a pod that asks for none.")
    ] = 256.0,
    price: Annotated[
        float, typer.Option(min=1e-6, max=1e6, help="Seconds of waiting that a GB·s is worth.")
    ] = PLAIN.price,
    cool_down_s: Annotated[
        float,
        typer.Option(
            "--cool-down", min=0, max=604_800, help="Seconds for which a floor is not lowered."
        ),
    ] = 60.0,
    most: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="The highest floor of a Revision.")
    ] = 100,
    interval_s: Interval = PLAIN_LOOKS.interval_s,
    history: History = "2d",
    hold_s: Annotated[
        float,
        typer.Option(
            "--hold",
            min=0,
            max=86_400,
            help="For so many seconds the last floor stands while Prometheus gives no number;"
            " then it is taken away.",
        ),
    ] = PLAIN_LOOKS.hold_s,
    forecast: ForecastFile = None,
    overrides: Annotated[
        Path | None, typer.Option(help="A TOML file of dated floors; app is NAMESPACE/REVISION.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="The cluster's configuration; else that of where it runs.")
    ] = None,
    lease_namespace: Annotated[
        str | None, typer.Option(help="Where the Lease is by which one of several leads.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Log and export what is wanted; write nothing.")
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = LOCAL,
    log_format: LogLines = LogFormat.TEXT,
    log_level: LeastLogged = LogLevel.INFO,
) -> None:
    """Keeps a floor under Knative's Revisions until SIGTERM, then takes it away."""
    configure(log_format, log_level)
    metrics_host = host_of(metrics_host, "--metrics-host")
    if metrics_port is None and metrics_host != LOCAL:
        raise UserError("--metrics-host goes with --metrics-port PORT")
    told = {
        "query": query,
        "memoryMb": f"{memory_mb:g}",
        "startSeconds": f"{start_s:g}",
        "coolDownSeconds": f"{cool_down_s:g}",
        "maxReplicas": str(most),
        "ignoreNullValues": "true",  # a Revision without pods has no series
    }
    defaults = Defaults(prometheus_of(prometheus, "--prometheus"), price)
    looking = LookingOptions(
        interval_s=interval_s,
        history_s=seconds_of(history, "--history"),
        hold_s=hold_s,
        overrides=overrides_of(overrides),
        forecast=forecast_of(forecast),
    )
    try:
        read(told, "any", defaults)
        options = KnativeOptions(
            cluster(None if kubeconfig is None else str(kubeconfig)),
            FloorOptions(namespace or ALL, told, defaults, dry_run),
            looking,
            lease_namespace,
            metrics_host,
            metrics_port,
        )
        with stderr_in_log():
            uvloop.run(run_until_signal(options))
    except (NoCluster, PageInUse, ToldError) as error:
        raise UserError(str(error)) from None
