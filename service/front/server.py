"""The gRPC server: the contest's Scaler service, standard health checking and reflection."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from warmscaler.models.policy import Policy
from warmscaler.service.explaining.history import History
from warmscaler.service.front.announcing import announce
from warmscaler.service.front.explaining import PATH as EXPLAIN_PATH
from warmscaler.service.front.explaining import SERVICE as EXPLAIN
from warmscaler.service.front.explaining import Explaining
from warmscaler.service.front.grpcio_transport import GrpcioTransport
from warmscaler.service.front.health_checks import HEALTH, HealthChecks
from warmscaler.service.front.memory import settle_memory
from warmscaler.service.front.methods import Unary
from warmscaler.service.front.own_transport import OwnTransport
from warmscaler.service.front.reflection import reflection_methods
from warmscaler.service.front.servicer import SERVICE, ScalerServicer
from warmscaler.service.front.tls import PlatformTls, ServerTls
from warmscaler.service.front.transport import (
    PENDING_CALLS,
    Serving,
    Transport,
    TransportKind,
)
from warmscaler.service.live.driver import Driver, log
from warmscaler.service.live.platform_client import PlatformClient
from warmscaler.service.live.serving_policy import Chosen
from warmscaler.service.observability.board.board import Board
from warmscaler.service.observability.health import PARTS, Health, Phase
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.observability.objective_metrics import objective_metrics
from warmscaler.service.observability.page import Page
from warmscaler.service.observability.shadow_metrics import shadow_metrics
from warmscaler.service.observability.tracing import Tracing
from warmscaler.service.observer import Observer
from warmscaler.service.persistence.follow import Follower
from warmscaler.service.persistence.ledger import Ledger
from warmscaler.service.scheduler.limits import SERVING as SERVING_LIMITS
from warmscaler.service.scheduler.limits import Limits
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.shadow import Shadow, said
from warmscaler.service.slots.times import StartLimits
from warmscaler.service.stopping import stopping
from warmscaler.service.switch_interval import switch_soon

if TYPE_CHECKING:
    from warmscaler.service.persistence.recording import Recorder

DRAIN_GRACE_S = 20.0
START_LIMITS = StartLimits()
STOP_GRACE_S = 1.0
"""At the end answers under way have so long to leave."""
TLS_POLL_S = 5.0
"""How often the files of the platform's TLS are looked at; the server's are at every handshake."""


class ServerEnded(Exception):
    """The server ended without being asked to; its text is one line."""


class ScalerServer:
    """A server on one address, and everything behind it."""

    def __init__(
        self,
        policy: Policy,
        platform_target: str,
        address: str,
        *,
        observers: Sequence[Observer] = (),
        history: History | None = None,
        health: Health | None = None,
        tls: ServerTls | None = None,
        platform_tls: PlatformTls | None = None,
        heard: Callable[[str], None] | None = None,
        limits: Limits = SERVING_LIMITS,
        ledger: Ledger | None = None,
        start_limits: StartLimits = START_LIMITS,
        reclaim_s: float | None = None,
        pending_calls: int = PENDING_CALLS,
        transport: TransportKind = TransportKind.OWN,
    ) -> None:
        """`address` is HOST:PORT; port 0 lets the system choose (see `port` after `start`).

        `heard` is told each request's `traceparent`. In the clear without `tls`, and toward the
        platform without `platform_tls`. Raises TlsError.
        """
        self.health = health or Health()
        self._platform_tls = platform_tls
        self._tasks: set[asyncio.Task[None]] = set()
        # Ids must differ from those of an earlier run, of which the platform may still have some.
        self._platform = PlatformClient(
            platform_target,
            None if platform_tls is None else platform_tls.credentials(),
            start_limits,
        )
        self.driver = Driver(
            Scheduler(policy, id_prefix=f"{uuid.uuid4().hex[:8]}-", limits=limits),
            self._platform,
            observers=observers,
            ledger=ledger,
            random=Random(uuid.uuid4().int),  # noqa: S311 # jitter: replicas must not agree
            limits=start_limits,
            reclaim_s=reclaim_s,
        )
        self.driver.slots.breaker.on_change = lambda well: self.health.set_problem(
            "platform",
            None if well else "the platform does not answer: it is asked seldom until it does",
        )
        explaining = Explaining(Board(self.driver, history or History(), self.health).account)
        self._ledger = ledger
        methods = [
            *ScalerServicer(self.driver).methods(),
            *HealthChecks(self.health, SERVICE, PARTS).methods(),
            Unary(EXPLAIN_PATH, lambda message, _: explaining.app(message)),
            *reflection_methods((SERVICE, EXPLAIN, HEALTH)),
        ]
        make = OwnTransport if transport is TransportKind.OWN else GrpcioTransport
        self._transport: Transport = make(Serving(address, methods, tls, pending_calls, heard))
        self.port = 0

    async def start(self) -> None:
        """Listens. Raises PortInUse, TlsError."""
        if self._ledger is not None:
            switch_soon()
            loop = asyncio.get_running_loop()
            self._ledger.on_problem = lambda problem: _call(
                loop, lambda: self.health.set_problem("ledger", problem)
            )
        self.driver.recover()
        self.driver.sweep()
        self.port = await self._transport.start()
        self.health.enter(Phase.READY)
        if self._platform_tls is not None:
            self._spawn(self._follow_platform_tls(self._platform_tls))

    async def until_ended(self) -> None:
        """Returns once the transport has ended, by `stop` or by an error of its own."""
        await self._transport.until_ended()

    async def stop(self, grace_s: float = DRAIN_GRACE_S) -> None:
        """Drains: no new work, running requests finish, every slot is given back."""
        self.health.enter(Phase.DRAINING)
        self._transport.drain()
        await self.driver.drain(grace_s)
        await self._transport.stop(STOP_GRACE_S)
        for task in list(self._tasks):
            task.cancel()
        await self._platform.close()

    async def _follow_platform_tls(self, tls: PlatformTls) -> None:
        while True:
            await asyncio.sleep(TLS_POLL_S)
            credentials = tls.changed()
            if credentials is not None:
                self._spawn(self._platform.reconnect(credentials))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@dataclass(frozen=True, slots=True)
class Operations:
    """What the operator sees and how calls are secured: TLS both ways, metrics, traces."""

    tls: ServerTls | None = None
    platform_tls: PlatformTls | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    """None serves no metrics and no /healthz; 0 lets the system choose."""
    metrics_apps: int = 0
    """How many apps the metrics show by key."""
    tracing: Tracing | None = None
    follower: Follower | None = None
    """Keeps the policy at what a model store points to."""
    recorder: Recorder | None = None
    shadow: Policy | None = None
    """Plans beside the one that serves, and never acts."""
    limits: Limits = SERVING_LIMITS
    ledger: Ledger | None = None
    start_limits: StartLimits = START_LIMITS
    reclaim_s: float | None = None
    """For how long an instance is in use without an Idle; None is for as long as its app may run
    and a while."""
    pending_calls: int = PENDING_CALLS
    transport: TransportKind = TransportKind.OWN


async def serve_until_signal(
    chosen: Chosen,
    platform_target: str,
    address: str,
    *,
    grace_s: float = DRAIN_GRACE_S,
    operations: Operations | None = None,
) -> None:
    """Serves until SIGTERM, SIGHUP or SIGINT, then drains.

    Raises PortInUse, PageInUse, TlsError, and ServerEnded once all is given back.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Before anything is made: who raises amid that leaves half of it.
    for number in (*stopping(), signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    operations = operations or Operations()
    health = Health()
    health.set_problem("model", chosen.problem)
    metrics = Metrics(health, top_apps=operations.metrics_apps)
    metrics.set_model(chosen.about)
    history = History()
    observers: list[Observer] = [metrics, history] if operations.metrics_port is not None else []
    recorder, follower = operations.recorder, operations.follower
    if recorder is not None:
        observers.append(recorder)
    shadow = None if operations.shadow is None else Shadow(operations.shadow, operations.limits)
    if shadow is not None:
        observers.append(shadow)
    tracing = operations.tracing
    if tracing is not None:
        observers.append(tracing)
    server = ScalerServer(  # belongs to the loop it is made in
        chosen.policy,
        platform_target,
        address,
        observers=observers,
        history=history,
        health=health,
        tls=operations.tls,
        platform_tls=operations.platform_tls,
        heard=None if tracing is None else tracing.heard,
        limits=operations.limits,
        ledger=operations.ledger,
        start_limits=operations.start_limits,
        reclaim_s=operations.reclaim_s,
        pending_calls=operations.pending_calls,
        transport=operations.transport,
    )
    metrics.watch(server.driver)
    metrics.add(partial(objective_metrics, lambda: server.driver.scheduler.policy))
    page = None
    if operations.metrics_port is not None:
        if shadow is not None:
            metrics.add(partial(shadow_metrics, shadow, server.driver.now_ms))
        board = Board(server.driver, history, health, lambda: metrics.model, shadow)
        page = Page(metrics, health, operations.metrics_host, operations.metrics_port, board)
        log.info("metrics and health on port %d", page.port)
    settle_memory()
    try:
        await server.start()
        ended = loop.create_task(server.until_ended())
        ended.add_done_callback(lambda _: stop.set())
        if chosen.problem is not None:
            log.error("DEGRADED: served by the built-in policy: %s", chosen.problem)
        if recorder is not None:
            recorder.start(
                lambda problem: _call(loop, lambda: health.set_problem("recording", problem)),
                server.driver.now_ms,
            )
        if follower is not None:
            follower.start(server.driver.scheduler, lambda: _show(follower, metrics, health))
        announce(
            log,
            chosen.policy,
            chosen.about,
            {
                "address": f"{address.rpartition(':')[0]}:{server.port}",
                "platform": platform_target,
                "ledger": None if operations.ledger is None else operations.ledger.path,
                "follows": None if follower is None else follower.location,
                "shadow": None if operations.shadow is None else operations.shadow.name,
            },
        )
        log.info("serving on port %d", server.port)
        await stop.wait()
        broken = ended.done()
        if shadow is not None:
            shadow.advance(server.driver.now_ms())
            log.info("%s", said(shadow, chosen.policy.name, server.driver.now_ms()))
        log.info("draining")
        await server.stop(grace_s)
        log.info("stopped")
        if broken:  # nobody can call: whoever runs the scaler must know, and start it again
            raise ServerEnded("the server ended by itself, see the log above; start it again")
    finally:
        if follower is not None:
            follower.close()
        if recorder is not None:
            recorder.close()
        if page is not None:
            page.close()
        if tracing is not None:
            tracing.close()
        if operations.ledger is not None:
            operations.ledger.close()


def _show(follower: Follower, metrics: Metrics, health: Health) -> None:
    """Which version serves, and what is wrong with the one that should."""
    metrics.set_model(follower.about())
    health.set_problem("model", follower.problem)


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """On the loop, from another thread; nothing if it has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(what)
