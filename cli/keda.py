"""`scaler keda`: KEDA's external scaler."""

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
    Port,
    TlsCert,
    TlsClientCa,
    TlsKey,
    server_tls,
)
from warmscaler.service.address import Address, is_loopback
from warmscaler.service.front.tls import TlsError
from warmscaler.service.front.transport import PortInUse
from warmscaler.service.keda.serving import KedaOptions, serve_until_signal
from warmscaler.service.looking.apps_file import AppsFileError, read_apps
from warmscaler.service.looking.looking import Full
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.looking.told import PLAIN, Defaults
from warmscaler.service.observability.logs import LogFormat, LogLevel, configure, stderr_in_log
from warmscaler.service.observability.page import PageInUse

log = logging.getLogger("scaler")
HPA_PERIOD_S = 15.0
PLAIN_LOOKS = LookingOptions()
KNOWN_ERRORS = (AppsFileError, Full, PageInUse, PortInUse, TlsError)


def keda(
    host: Annotated[str, typer.Option(envvar="SCALER_HOST", help="Address to listen on.")] = LOCAL,
    port: Port = 9001,
    prometheus: Annotated[
        str | None,
        typer.Option(help="Prometheus' URL, for ScaledObjects without prometheusAddress."),
    ] = None,
    price: Annotated[
        float,
        typer.Option(
            min=1e-6,
            max=1e6,
            help="Seconds of waiting that a GB·s is worth, for ScaledObjects without price.",
        ),
    ] = PLAIN.price,
    interval_s: Interval = PLAIN_LOOKS.interval_s,
    acts_s: Annotated[
        float,
        typer.Option(
            "--hpa-period", min=0, max=3_600, help="Seconds between two questions of the HPA."
        ),
    ] = HPA_PERIOD_S,
    history: History = "2d",
    hold_s: Annotated[
        float,
        typer.Option(
            "--hold",
            min=0,
            max=86_400,
            help="For so many seconds the last answer stands while Prometheus gives no number;"
            " after that KEDA hears UNAVAILABLE.",
        ),
    ] = PLAIN_LOOKS.hold_s,
    apps: Annotated[
        Path | None,
        typer.Option(help="A TOML file of apps to follow that no ScaledObject asks for."),
    ] = None,
    forecast: ForecastFile = None,
    overrides: Annotated[
        Path | None, typer.Option(help="A TOML file of dated floors: app, from, until, at_least.")
    ] = None,
    max_apps: Annotated[
        int, typer.Option(min=1, help="Apps followed at once; beyond: RESOURCE_EXHAUSTED.")
    ] = PLAIN_LOOKS.most_apps,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Log and export what is wanted; answer KEDA that nothing is."
        ),
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = LOCAL,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    log_format: LogLines = LogFormat.TEXT,
    log_level: LeastLogged = LogLevel.INFO,
) -> None:
    """Serves KEDA's external scaler until SIGTERM: replicas ahead of time, from Prometheus."""
    configure(log_format, log_level)
    host, metrics_host = host_of(host, "--host"), host_of(metrics_host, "--metrics-host")
    if metrics_port is None and metrics_host != LOCAL:
        raise UserError("--metrics-host goes with --metrics-port PORT")
    defaults = Defaults(prometheus_of(prometheus, "--prometheus"), price)
    tls = server_tls(tls_cert, tls_key, tls_client_ca)
    if tls is None and not is_loopback(host):
        log.warning("in the clear on %s: whoever reaches it can call; see --tls-cert", host)
    looking = LookingOptions(
        interval_s=interval_s,
        acts_s=acts_s,
        history_s=seconds_of(history, "--history"),
        hold_s=hold_s,
        most_apps=max_apps,
        overrides=overrides_of(overrides),
        forecast=forecast_of(forecast),
    )
    try:
        options = KedaOptions(
            str(Address(host, port)),
            looking,
            defaults,
            () if apps is None else read_apps(apps, defaults),
            dry_run,
            tls,
            metrics_host,
            metrics_port,
        )
        with stderr_in_log():
            uvloop.run(serve_until_signal(options))
    except KNOWN_ERRORS as error:
        raise UserError(str(error)) from None
