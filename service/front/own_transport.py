"""Our own HTTP/2 on sockets: listens, makes a connection of each caller, ends them all."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from warmscaler.service.front.admission import Admission
from warmscaler.service.front.methods import Unary
from warmscaler.service.front.protocol import Connected, log
from warmscaler.service.front.transport import PortInUse, Serving

BACKLOG = 1_024
MAX_CONNECTIONS = 10_000
HANDSHAKE_S = 10.0
"""For so long a TLS handshake may take."""
_NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
SETTLED_S = 0.02
"""How often it is looked at whether all callers have gone."""


class OwnTransport:
    """On the event loop it is started on."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._methods = {each.path.encode(): each for each in serving.methods}
        if serving.heard is not None:  # it is told of each request before that is answered
            for path, each in self._methods.items():
                if isinstance(each, Unary):
                    self._methods[path] = replace(each, at_once=None)
        self._admission = Admission(serving.pending_calls)
        self._connections: set[Connected] = set()
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def start(self) -> int:
        """See Transport."""
        host, _, port = self._serving.address.rpartition(":")
        tls = self._serving.tls
        contexts = None if tls is None else tls.contexts()
        try:
            self._sockets = _listen(host.strip("[]"), int(port))
        except OSError:
            raise PortInUse(self._serving.address) from None
        loop = asyncio.get_running_loop()
        self._accepting = [loop.create_task(self._accept(each, contexts)) for each in self._sockets]
        for task in self._accepting:
            task.add_done_callback(lambda _: self._ended.set())
        return int(self._sockets[0].getsockname()[1])

    def drain(self) -> None:
        """See Transport."""
        self._tell_all(last=False)

    async def stop(self, grace_s: float) -> None:
        """See Transport."""
        for task in (*self._accepting, *self._handshakes):
            task.cancel()
        await asyncio.gather(*self._accepting, *self._handshakes, return_exceptions=True)
        for each in self._sockets:
            each.close()
        self._tell_all(last=True)
        end_s = time.monotonic() + grace_s
        while any(not each.silent for each in self._connections) and time.monotonic() < end_s:  # noqa: ASYNC110
            await asyncio.sleep(SETTLED_S)
        for connected in list(self._connections):
            connected.close()
        await asyncio.sleep(0)
        self._ended.set()

    async def until_ended(self) -> None:
        """See Transport."""
        await self._ended.wait()

    def _tell_all(self, *, last: bool) -> None:
        for connected in list(self._connections):
            connected.machine.http.drain(last=last)
            connected.flush()

    def _connected(self) -> Connected:
        return Connected(self._methods, self._admission, self._connections, self._serving.heard)

    async def _accept(
        self, listener: socket.socket, contexts: Callable[[], ssl.SSLContext] | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                caller, name = await loop.sock_accept(listener)
            except OSError:  # it left before it was taken, or there is no room for it: a moment
                await asyncio.sleep(SETTLED_S)
                continue
            if len(self._connections) + len(self._handshakes) >= MAX_CONNECTIONS:
                caller.close()
                continue
            with suppress(OSError):
                caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(self._welcome(caller, name, contexts and contexts()))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _welcome(self, caller: socket.socket, name: str, tls: ssl.SSLContext | None) -> None:
        wait_s = None if tls is None else HANDSHAKE_S
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connected, caller, ssl=tls, ssl_handshake_timeout=wait_s
            )
        except OSError as error:
            if not isinstance(error, ConnectionError):  # who just leaves is no news
                log.warning("%s: closed: no TLS with it: %s", name, error)
            caller.close()


def _listen(host: str, port: int) -> list[socket.socket]:
    """On every address that the host's name stands for. Raises OSError."""
    sockets: list[socket.socket] = []
    problem: OSError | None = None
    # `localhost` is both, whatever the system's list of names says (RFC 6761, 6.3).
    for name in ("127.0.0.1", "::1") if host.lower() == "localhost" else (host,):
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            for family, _, _, _, address in dict.fromkeys(found):
                chosen = sockets[0].getsockname()[1] if sockets else port
                sockets.append(_bound(family, (address[0], chosen, *address[2:])))
        except OSError as error:
            problem = error
    if problem is not None and not (sockets and problem.errno in _NO_SUCH_ADDRESS):
        for each in sockets:
            each.close()
        raise problem
    return sockets


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    # `::` is every address, of both kinds.
    both = address[0] == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener
