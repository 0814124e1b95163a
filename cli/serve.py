"""`scaler serve`: the gRPC service."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from warmscaler.cli.configuration import mistaken_variables
from warmscaler.cli.errors import UserError
from warmscaler.cli.health import address_of, channel_tls, host_of
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
from warmscaler.cli.objective import GbHour, ObjectiveOption, PriceOption, SecondWaited, asked
from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.artifact.store import StoreError
from warmscaler.models.registry import PolicyError
from warmscaler.service.address import Address, is_loopback
from warmscaler.service.front.server import (
    DRAIN_GRACE_S,
    START_LIMITS,
    Operations,
    ServerEnded,
    serve_until_signal,
)
from warmscaler.service.front.tls import TlsError
from warmscaler.service.front.transport import PENDING_CALLS, PortInUse, TransportKind
from warmscaler.service.live.neighbour import stop_when_closed
from warmscaler.service.live.serving_policy import LEARNED, choose_policy, follow_store, mend_later
from warmscaler.service.observability.logs import LogFormat, LogLevel, configure, stderr_in_log
from warmscaler.service.observability.page import PageInUse
from warmscaler.service.observability.tracing import Tracing, TracingError
from warmscaler.service.persistence.ledger import Ledger, LedgerError
from warmscaler.service.scheduler.limits import SERVING, Limits
from warmscaler.service.slots.times import StartLimits

if TYPE_CHECKING:
    from warmscaler.service.persistence.recording import Recorder

log = logging.getLogger("scaler")
RECORD_DAYS = 30.0
RECORD_GB = 10.0
KNOWN_ERRORS = (
    ArtifactError,
    LedgerError,
    PolicyError,
    PortInUse,
    PageInUse,
    StoreError,
    TlsError,
    TracingError,
)


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOCAL,
    port: Port = 9001,
    platform: Annotated[str, typer.Option(help="The platform's HOST:PORT.")] = "127.0.0.1:50051",
    policy: Annotated[str, typer.Option(help="fixed:SECONDS, reference, learned, …")] = "learned",
    model: Annotated[Path | None, typer.Option(help="A model made by `scaler train`.")] = None,
    price: PriceOption = None,
    objective: ObjectiveOption = None,
    gb_hour: GbHour = None,
    second_waited: SecondWaited = None,
    drain_s: Annotated[
        float, typer.Option("--drain", min=0, help="Seconds to finish and give back after SIGTERM.")
    ] = DRAIN_GRACE_S,
    until_closed: Annotated[
        str | None,
        typer.Option(help="Stop when HOST:PORT closes after it was open: the contest's 9000."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Follow a model store, a folder or an fsspec URL. --model serves until it has one."
        ),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="A folder to record every request into, for retraining.")
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(help="A policy that plans beside, never acts: what it would have saved."),
    ] = None,
    shadow_model: Annotated[
        Path | None, typer.Option(help="The model of --shadow learned; else its built-in prior.")
    ] = None,
    shadow_price: Annotated[
        float | None, typer.Option(help="The price of --shadow learned; else as trained.")
    ] = None,
    shadow_objective: Annotated[
        str | None, typer.Option(help="The objective of --shadow learned; else as trained.")
    ] = None,
    record_days: Annotated[
        float, typer.Option(min=0, help="Records are taken away after so many days.")
    ] = RECORD_DAYS,
    record_gb: Annotated[
        float,
        typer.Option(min=0, max=1e9, help="The oldest records go where all are more than this."),
    ] = RECORD_GB,
    strict_model: Annotated[
        bool,
        typer.Option("--strict-model", help="End with exit code 2 where the model is no good."),
    ] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = LOCAL,
    metrics_apps: Annotated[
        int, typer.Option(min=0, max=100, help="Apps that the metrics show by key: the busiest.")
    ] = 0,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    platform_ca: Annotated[
        Path | None, typer.Option(help="Call the platform over TLS; it must be signed by this one.")
    ] = None,
    platform_cert: Annotated[
        Path | None, typer.Option(help="The certificate to show to the platform.")
    ] = None,
    platform_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    otlp: Annotated[
        str | None, typer.Option(help="Send OpenTelemetry traces to HOST:PORT (the extra otel).")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="A file that remembers every slot, so that a killed scaler leaks none."),
    ] = None,
    ledger_sync: Annotated[
        bool, typer.Option("--ledger-sync", help="The ledger survives power loss as well; slower.")
    ] = False,
    reclaim_s: Annotated[
        float | None,
        typer.Option(
            "--reclaim",
            min=0.001,
            help="After so many seconds without an Idle an instance in use is destroyed, "
            "instead of 60 s after its app's timeout.",
        ),
    ] = None,
    slow_create_s: Annotated[
        float,
        typer.Option(
            "--slow-create",
            min=0.001,
            max=86_400,
            help="After so many seconds without an answer CreateSlot is sent once more, under "
            "another request id; the first to answer serves.",
        ),
    ] = START_LIMITS.slow_create_s,
    init_limit_s: Annotated[
        float,
        typer.Option(
            "--init-limit",
            min=0.001,
            max=86_400,
            help="After so many seconds without an answer Init has failed.",
        ),
    ] = START_LIMITS.init_s,
    max_wait_s: Annotated[
        float,
        typer.Option(
            "--max-wait",
            min=0.001,
            max=86_400,
            help="A request that waited so many seconds for an instance hears Throttle.",
        ),
    ] = START_LIMITS.wait_s,
    max_slots: Annotated[int | None, typer.Option(min=1, help="Slots in all.")] = None,
    max_slots_per_app: Annotated[int | None, typer.Option(min=1, help="Slots of an app.")] = None,
    max_memory_mb: Annotated[int | None, typer.Option(min=1, help="Memory of all slots.")] = None,
    max_waiting: Annotated[int | None, typer.Option(min=1, help="Requests waiting.")] = None,
    max_waiting_per_app: Annotated[
        int | None, typer.Option(min=1, help="Requests of an app waiting; beyond all: Throttle.")
    ] = None,
    max_starting: Annotated[
        int | None, typer.Option(min=1, help="Instances on their way; beyond: Throttle.")
    ] = None,
    max_apps: Annotated[
        int | None, typer.Option(min=1, help="Apps known; the least missed are forgotten.")
    ] = None,
    max_pending_calls: Annotated[
        int, typer.Option(min=1, help="Calls not looked at yet; those beyond are refused.")
    ] = PENDING_CALLS,
    transport: Annotated[
        TransportKind,
        typer.Option(help="What carries the calls: our own HTTP/2, or grpcio's."),
    ] = TransportKind.OWN,
    log_format: LogLines = LogFormat.TEXT,
    log_level: LeastLogged = LogLevel.INFO,
) -> None:
    """Serves Assign and Idle until SIGTERM, then drains and gives every slot back.

    The platform is called when the first start needs it: it may come up after the scaler.
    """
    configure(log_format, log_level)
    for line in mistaken_variables(context.command):
        log.warning("%s", line)
    target = str(address_of(platform, "--platform"))
    host, metrics_host = host_of(host, "--host"), host_of(metrics_host, "--metrics-host")
    if ledger is not None and ledger.is_dir():
        raise UserError(f"--ledger {ledger}: is a folder; name a file")
    if ledger_sync and ledger is None:
        raise UserError("--ledger-sync goes with --ledger FILE: without one no slot is remembered")
    if metrics_port is None and (metrics_apps or metrics_host != LOCAL):
        raise UserError("--metrics-host and --metrics-apps go with --metrics-port PORT")
    if record is None and (record_days, record_gb) != (RECORD_DAYS, RECORD_GB):
        raise UserError("--record-days and --record-gb go with --record FOLDER")
    if until_closed is not None:
        neighbour = address_of(until_closed, "--until-closed")
        stop_when_closed(neighbour.host, neighbour.port)
    wanted = asked(price, objective, gb_hour, second_waited)
    shadow_wanted = asked(shadow_price, shadow_objective, prefix="--shadow-")
    if shadow != LEARNED and (shadow_model is not None or shadow_wanted is not None):
        raise UserError(
            "--shadow-model, --shadow-price and --shadow-objective go with --shadow learned"
        )
    if wanted is not None and policy != LEARNED:
        raise UserError(f"an objective is for the learned policy, not for {policy}")
    if model is not None and policy != LEARNED:
        raise UserError(f"--model is for the learned policy, not for {policy}")
    if store is not None and policy != LEARNED:
        raise UserError(f"--store is for the learned policy, not for {policy}")
    operations = Operations(
        tls=server_tls(tls_cert, tls_key, tls_client_ca),
        platform_tls=channel_tls(
            platform_ca,
            platform_cert,
            platform_key,
            *("--platform-ca", "--platform-cert", "--platform-key"),
        ),
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        metrics_apps=metrics_apps,
        limits=_limits(
            slots=max_slots,
            slots_per_app=max_slots_per_app,
            memory_mb=max_memory_mb,
            waiting=max_waiting,
            waiting_per_app=max_waiting_per_app,
            starting=max_starting,
            apps=max_apps,
        ),
        start_limits=StartLimits(slow_create_s, init_limit_s, max_wait_s),
        reclaim_s=reclaim_s,
        pending_calls=max_pending_calls,
        transport=transport,
    )
    if operations.tls is None and not is_loopback(host):
        log.warning("in the clear on %s: whoever reaches it can call; see --tls-cert", host)
    try:
        if store is None:
            chosen = choose_policy(policy, model, wanted, strict=strict_model)
            follower = mend_later(chosen, model, wanted)
        else:
            chosen, follower = follow_store(store, model, wanted, strict=strict_model)
        operations = replace(operations, follower=follower)
        if shadow is not None:
            beside = choose_policy(
                shadow, shadow_model, shadow_wanted, strict=shadow_model is not None
            )
            operations = replace(operations, shadow=beside.policy)
        if otlp is not None:
            collector = str(address_of(otlp, "--otlp"))
            operations = replace(operations, tracing=Tracing(collector))
        if record is not None:
            operations = replace(operations, recorder=_recorder(record, record_days, record_gb))
        if ledger is not None:
            operations = replace(operations, ledger=Ledger(ledger, sync=ledger_sync))
        address = str(Address(host, port))
        with stderr_in_log():
            uvloop.run(
                serve_until_signal(chosen, target, address, grace_s=drain_s, operations=operations)
            )
    except ServerEnded as error:
        log.error("%s", error)
        raise typer.Exit(1) from None
    except KNOWN_ERRORS as error:
        raise UserError(str(error)) from None


def _recorder(folder: Path, days: float, gigabytes: float) -> Recorder:
    # Whoever does not record has no need of the 25 MB that writing Parquet takes.
    from warmscaler.service.persistence.recording import DAY_S, Recorder, RecordingError

    try:
        return Recorder(folder, max_age_s=days * DAY_S, max_bytes=round(gigabytes * 2**30))
    except RecordingError as error:
        raise UserError(str(error)) from None


def _limits(**asked: int | None) -> Limits:
    return replace(SERVING, **{name: each for name, each in asked.items() if each is not None})
