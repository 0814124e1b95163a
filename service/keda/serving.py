"""`scaler keda` as a process: the external scaler on the front, looks beside it, metrics."""

from __future__ import annotations

import asyncio
import logging
import signal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from warmscaler.replicas.spec import AppSpec
from warmscaler.service.front.health_checks import HEALTH, HealthChecks
from warmscaler.service.front.memory import settle_memory
from warmscaler.service.front.own_transport import OwnTransport
from warmscaler.service.front.reflection import reflection_methods
from warmscaler.service.front.tls import ServerTls
from warmscaler.service.front.transport import Serving
from warmscaler.service.keda.servicer import SERVICE, ExternalScaler
from warmscaler.service.looking.followed import Source
from warmscaler.service.looking.gauges import Gauges
from warmscaler.service.looking.looking import Looking
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.looking.told import Defaults
from warmscaler.service.observability.health import Health, Phase
from warmscaler.service.observability.page import Page
from warmscaler.service.stopping import stopping

log = logging.getLogger("scaler")

GRACE_S = 2.0
PROMETHEUS = "prometheus"
"""The part of health that has a problem while one does not answer."""
WATCHED_S = 1.0


@dataclass(frozen=True, slots=True)
class KedaOptions:
    """What `scaler keda` is told."""

    address: str
    """HOST:PORT to listen on; port 0 lets the system choose."""
    looking: LookingOptions = LookingOptions()
    defaults: Defaults = Defaults()
    apps: Sequence[tuple[AppSpec, Source]] = ()
    """Followed whether or not anybody asks."""
    dry_run: bool = False
    tls: ServerTls | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None


async def serve_until_signal(options: KedaOptions) -> None:
    """Until SIGTERM, SIGHUP or SIGINT. Raises PortInUse, PageInUse, TlsError, Full."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (*stopping(), signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = Health()
    seed = uuid.uuid4().int  # scalers beside each other must not agree on when to try again
    looking = Looking(options.looking, Random(seed).random)  # noqa: S311 # jitter
    scaler = ExternalScaler(looking, options.defaults, dry_run=options.dry_run)
    methods = [
        *scaler.methods(),
        *HealthChecks(health, SERVICE, (PROMETHEUS,)).methods(),
        *reflection_methods((SERVICE, HEALTH)),
    ]
    transport = OwnTransport(Serving(options.address, methods, options.tls))
    page, tasks = None, [loop.create_task(looking.run()), loop.create_task(_watch(looking, health))]
    try:
        if options.metrics_port is not None:
            metrics = Gauges(looking, health)
            page = Page(metrics, health, options.metrics_host, options.metrics_port)
            log.info("metrics and health on port %d", page.port)
        port = await transport.start()
        for spec, source in options.apps:
            looking.follow(spec.app, spec, source, keep=True)
        settle_memory()
        health.enter(Phase.READY)
        if options.dry_run:
            log.warning("dry run: what is wanted is logged and exported, and nobody is told of it")
        log.info("serving on port %d", port)
        await stop.wait()
        log.info("stopping")
    finally:
        health.enter(Phase.DRAINING)
        for task in tasks:
            task.cancel()
        await transport.stop(GRACE_S)
        await looking.close()
        if page is not None:
            page.close()


async def _watch(looking: Looking, health: Health) -> None:
    """Tells health where a Prometheus is away."""
    told: str | None = None
    while True:
        away = [
            f"{place.name}: {place.problem}" for place in looking.places.values() if place.problem
        ]
        problem = "; ".join(away) or None
        if problem != told:
            health.set_problem(PROMETHEUS, problem)
            told = problem
        await asyncio.sleep(WATCHED_S)
