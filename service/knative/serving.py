"""`scaler knative` as a process: the lease, the watch, the looks, the writes."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from lightkube.config.kubeconfig import SingleConfig
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from warmscaler.service.knative.api import Api
from warmscaler.service.knative.campaign import Campaign
from warmscaler.service.knative.controller import Controller, FloorOptions
from warmscaler.service.knative.election import Election
from warmscaler.service.looking.gauges import Gauges
from warmscaler.service.looking.looking import Looking
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.observability.health import Health, Phase
from warmscaler.service.observability.page import Page
from warmscaler.service.stopping import stopping

log = logging.getLogger("scaler")

LEASE = "scaler-knative"
WATCHED_S = 1.0


@dataclass(frozen=True, slots=True)
class KnativeOptions:
    """What `scaler knative` is told."""

    cluster: SingleConfig
    floors: FloorOptions
    looking: LookingOptions = LookingOptions()
    lease_namespace: str | None = None
    """Of the Lease; None is where it runs."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None


async def run_until_signal(options: KnativeOptions) -> None:
    """Until SIGTERM, SIGHUP or SIGINT; then what it wrote is taken away. Raises PageInUse."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (*stopping(), signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = Health()
    random = Random(uuid.uuid4().int)  # noqa: S311 # jitter
    looking = Looking(options.looking, random.random)
    api = Api(options.cluster)
    election = Election(f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}")
    # A dry run writes nothing, a Lease neither.
    dry_run = options.floors.dry_run
    controller = Controller(
        api, looking, options.floors, lambda: dry_run or campaign.leads(), random.random
    )
    namespace = options.lease_namespace or api.namespace
    campaign = Campaign(api, election, namespace, LEASE, controller.stir)
    page, tasks = None, []
    try:
        if options.metrics_port is not None:
            metrics = _Metrics(Gauges(looking, health), controller, campaign)
            page = Page(metrics, health, options.metrics_host, options.metrics_port)
            log.info("metrics and health on port %d", page.port)
        work = [looking.run(), controller.watch(), controller.write(), _watch(controller, health)]
        work += [] if dry_run else [campaign.run()]
        tasks = [loop.create_task(each) for each in work]
        for task in tasks:
            task.add_done_callback(lambda _: stop.set())
        health.enter(Phase.READY)
        if dry_run:
            log.warning("dry run: what is wanted is logged and exported, and nothing is written")
        log.info("watching Revisions of %s", options.floors.namespace)
        await stop.wait()
        log.info("stopping")
        for task in tasks:
            if task.done():
                task.result()  # it ended by a fault of ours: that is said
    finally:
        health.enter(Phase.DRAINING)
        await _end(tasks[:-1] if not dry_run else tasks)
        await controller.leave()
        await _end(tasks)
        if not dry_run:
            await campaign.resign()
        await looking.close()
        await api.close()
        if page is not None:
            page.close()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(controller: Controller, health: Health) -> None:
    """Tells health of the API, and looks at everything again now and then."""
    told: str | None = None
    while True:
        if controller.problem != told:
            told = controller.problem
            health.set_problem("kubernetes", told)
        await asyncio.sleep(WATCHED_S)


class _Metrics:
    """What every scaler of replicas tells, and what this one writes."""

    def __init__(self, gauges: Gauges, controller: Controller, campaign: Campaign) -> None:
        self._gauges, self._controller, self._campaign = gauges, controller, campaign

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        yield from self._gauges.collect()
        yield GaugeMetricFamily(
            "scaler_leads", "1 where this one may write.", float(self._campaign.leads())
        )
        yield GaugeMetricFamily("scaler_revisions", "Revisions known.", len(self._controller.known))
        yield CounterMetricFamily(
            "scaler_floor_writes", "Changes of min-scale.", self._controller.writes
        )
