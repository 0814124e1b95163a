"""One connection on the event loop: what a caller's bytes bring is answered as they are read."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import cast

from warmscaler.service.front.admission import Admission
from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.http2.rpc import Call, GrpcConnection
from warmscaler.service.front.methods import Caller, Conversation, Failed, Later, Method, Unary
from warmscaler.service.front.transport import MAX_MESSAGE_BYTES

log = logging.getLogger("scaler.front")

PREFACE_S = 10.0
"""For so long a connection may say nothing of HTTP/2."""
STALLED_S = 30.0
"""For so long a caller may leave unread what it was sent."""
LINGER_S = 1.0
"""For so long a caller that has all its answers may take to close its end. Closed here at once, whatever
it sends just then resets the connection, and answers that it has not read yet are lost with it."""
_LONGEST_S = 1e6
_EXPIRED = "the deadline passed"


class Connected(asyncio.BufferedProtocol):
    """A caller's connection, in the clear or over TLS."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        admission: Admission,
        all_of_them: set[Connected],
        heard: Callable[[str], None] | None,
    ) -> None:
        """`heard`: see Serving."""
        self.machine = GrpcConnection(methods, MAX_MESSAGE_BYTES, self, admission.answered)
        self._admission = admission
        self._all = all_of_them
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._name = ""
        self._asked = 0
        """Bytes that the read under way may bring."""
        self._flushing = False
        self._unread = False
        """The system takes no more: its peer does not read."""
        self._over = False
        """All is said; what still comes is of no interest."""
        self._timer: asyncio.TimerHandle | None = None
        """Gives up a peer that says nothing at first, or reads nothing later, or stays."""
        self._moved: asyncio.Future[None] | None = None
        """Done when something was read or taken."""

    @property
    def silent(self) -> bool:
        """Whether nothing of HTTP/2 was ever said on it."""
        return not self.machine.http.greeted

    # Of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        self._name = str(transport.get_extra_info("peername"))
        tls = transport.get_extra_info("ssl_object")
        if isinstance(tls, ssl.SSLObject) and tls.selected_alpn_protocol() != "h2":
            log.warning("%s: closed: TLS without ALPN for h2", self._name)
            transport.abort()
            return
        self._all.add(self)
        self._timer = self._loop.call_later(PREFACE_S, self._give_up, "no HTTP/2 preface came")
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._all.discard(self)
        self._admission.leave(self)
        self._transport = None
        self._calm()
        self.machine.gone()
        self._wake()

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = self._admission.buffer(self)
        self._asked = len(buffer)
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._over:
            return
        machine, now_s = self.machine, time.monotonic()
        more, machine.admitted = self._admission.read(self, now_s, all_of_it=nbytes < self._asked)
        machine.receive(self._admission.content(nbytes), now_s)
        if self._timer is not None and machine.http.greeted and not self._unread:
            self._calm()
        if self._moved is not None:
            self._wake()
        self.flush()
        if more and self._transport is not None and not self._unread:
            self._transport.pause_reading()  # others have their turn, and answers leave
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._unread:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._unread = True
        self._transport.pause_reading()  # type: ignore[union-attr]
        self._watch()

    def resume_writing(self) -> None:
        self._unread = False
        if not self._over:
            self._calm()
        self._wake()
        if self._transport is not None:
            self._transport.resume_reading()
            self.soon()

    # Calls: see Handler

    def called(self, call: Call[Method], message: bytes) -> None:
        method = cast(Unary, call.request.method)
        if self._heard is not None:
            self._heard(call.request.traceparent)
        caller = _Waits(self, call)
        try:
            answer = method.answer(message, caller)
        except Failed as failed:
            self.machine.finish(call, failed.code, str(failed))
        except Exception:
            self.failed(call)
        else:
            if isinstance(answer, bytes):
                self.machine.answer(call, answer)
            else:
                caller.wait(answer)

    def failed(self, call: Call[Method]) -> None:
        log.exception("%s failed", call.request.method.path if call.request.method else "a call")
        self.machine.finish(call, Code.INTERNAL, "the scaler failed")

    def began(self, call: Call[Method]) -> None:
        if isinstance(method := call.request.method, Conversation):
            call.owner = _Talk(self, call, method)

    def message(self, call: Call[Method], message: bytes) -> None:
        call.owner.messages.put_nowait(message)

    def ended(self, call: Call[Method]) -> None:
        call.owner.messages.put_nowait(None)

    def lost(self, call: Call[Method]) -> None:
        call.owner.lost()

    # Out

    def flush(self) -> None:
        """Sends what there is; closes what is to be closed."""
        self._flushing = False
        transport, http = self._transport, self.machine.http
        if transport is None or self._over:
            return
        content = http.take()
        if content:
            transport.write(content)
        if http.closing is not None:
            log.warning("%s: closed: %s (%s)", self._name, http.closing, http.closing.code.name)
            transport.close()
        elif http.leaving and not http.streams:
            if not self._unread:
                self._leave(transport)
        elif http.sending.queued_bytes and self._timer is None:
            self._watch()

    def soon(self) -> None:
        """Sends what there is at the end of this turn of the event loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    async def readable(self, call: Call[Method]) -> None:
        """Returns once the peer has taken what was sent on this call, or it is over."""
        while call.open and (call.queue or self._unread):
            if self._moved is None:
                self._moved = self._loop.create_future()
            await asyncio.shield(self._moved)

    def close(self) -> None:
        """Ends it, whatever is open."""
        if self._transport is not None:
            self._transport.close()

    def _leave(self, transport: asyncio.Transport) -> None:
        self._over = True
        self._calm()
        if transport.can_write_eof():
            with suppress(OSError):  # it has gone
                transport.write_eof()
            self._timer = self._loop.call_later(LINGER_S, transport.close)
        else:
            transport.close()  # TLS says good-bye, and waits for the peer's

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    def _watch(self) -> None:
        self._calm()
        self._timer = self._loop.call_later(STALLED_S, self._give_up, "it reads no answers")

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, why: str) -> None:
        self._timer = None
        if self._transport is not None:
            log.warning("%s: closed: %s", self._name, why)
            self._transport.abort()


class _Waits(Caller):
    """Whose unary call is not answered at once."""

    __slots__ = ("_begun_s", "_call", "_connected", "_later", "_timer")

    def __init__(self, connected: Connected, call: Call[Method]) -> None:
        self._connected = connected
        self._call = call
        self._later: Later | None = None
        self._timer: asyncio.TimerHandle | None = None

    def time_left_s(self) -> float | None:
        timeout_s = self._call.request.timeout_s
        return None if timeout_s is None else self._call.began_s + timeout_s - time.monotonic()

    def settle(self, answer: bytes | Failed) -> None:
        self._end()
        machine = self._connected.machine
        if isinstance(answer, Failed):
            machine.finish(self._call, answer.code, str(answer))
        else:
            machine.answer(self._call, answer)
        self._connected.soon()

    def wait(self, later: Later) -> None:
        """Until it is answered, lost, or late."""
        self._later = later
        self._call.owner = self
        left_s = self.time_left_s()
        if left_s is not None and left_s < _LONGEST_S:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._expire)

    def lost(self) -> None:
        """Its caller is gone."""
        self._end()
        if self._later is not None:
            self._later.leave()

    def _expire(self) -> None:
        self.lost()
        self._connected.machine.finish(self._call, Code.DEADLINE_EXCEEDED, _EXPIRED)
        self._connected.soon()

    def _end(self) -> None:
        self._call.owner = None
        if self._timer is not None:
            self._timer.cancel()


class _Talk:
    """A conversation, in a task of its own."""

    def __init__(self, connected: Connected, call: Call[Method], method: Conversation) -> None:
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        """None is the end."""
        self._connected = connected
        self._call = call
        self._task = asyncio.get_running_loop().create_task(self._run(method))

    def lost(self) -> None:
        """Its caller is gone."""
        self._task.cancel()

    async def _run(self, method: Conversation) -> None:
        call, machine, code, text = self._call, self._connected.machine, Code.OK, ""
        try:
            async with asyncio.timeout(call.request.timeout_s):
                async for answer in method.converse(self._read()):
                    machine.send(call, answer)
                    self._connected.soon()
                    await self._connected.readable(call)
        except Failed as failed:
            code, text = failed.code, str(failed)
        except TimeoutError:
            code, text = Code.DEADLINE_EXCEEDED, _EXPIRED
        except Exception:
            log.exception("%s failed", method.path)
            code, text = Code.INTERNAL, "the scaler failed"
        machine.finish(call, code, text)
        self._connected.soon()

    async def _read(self) -> AsyncIterator[bytes]:
        while (message := await self.messages.get()) is not None:
            self._connected.machine.took(self._call, message)
            self._connected.soon()
            yield message
