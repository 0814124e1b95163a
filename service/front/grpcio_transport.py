"""The same methods on grpcio's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.methods import Caller, Conversation, Failed, Method, Unary
from warmscaler.service.front.transport import MAX_MESSAGE_BYTES, PortInUse, Serving

Context = grpc.aio.ServicerContext[Any, Any]
_CODES = {Code(code.value[0]): code for code in grpc.StatusCode}


class GrpcioTransport:
    """On the event loop it is made on."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        pending = serving.pending_calls
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                # Callers that ping while their Assign waits are not cut off for it.
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.server.max_pending_requests", pending),
                ("grpc.server.max_pending_requests_hard_limit", pending * 3 // 2),
            ],
        )

    async def start(self) -> int:
        """See Transport."""
        services: dict[str, dict[str, Any]] = {}
        for method in self._serving.methods:
            _, service, name = method.path.split("/")
            services.setdefault(service, {})[name] = self._handler(method)
        for service, handlers in services.items():
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        port, tls = 0, self._serving.tls
        with suppress(RuntimeError):
            if tls is None:
                port = self._server.add_insecure_port(self._serving.address)
            else:
                port = self._server.add_secure_port(self._serving.address, tls.credentials())
        if port == 0:
            raise PortInUse(self._serving.address)
        await self._server.start()
        return port

    def drain(self) -> None:
        """grpcio tells nobody before it stops."""

    async def stop(self, grace_s: float) -> None:
        """See Transport."""
        await self._server.stop(grace_s)

    async def until_ended(self) -> None:
        """See Transport."""
        with suppress(Exception):  # it has logged what ended it
            await self._server.wait_for_termination()

    def _handler(self, method: Method) -> Any:
        if isinstance(method, Unary):
            return grpc.unary_unary_rpc_method_handler(_unary(method, self._serving.heard))
        return grpc.stream_stream_rpc_method_handler(_conversation(method))


class _Waits(Caller):
    def __init__(self, context: Context) -> None:
        self._context = context
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def time_left_s(self) -> float | None:
        return self._context.time_remaining()

    def settle(self, answer: bytes | Failed) -> None:
        if self.future.done():
            return
        if isinstance(answer, Failed):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


def _unary(
    method: Unary, heard: Callable[[str], None] | None
) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def handle(message: bytes, context: Context) -> bytes:
        if heard is not None:
            heard(_traceparent(context))
        try:
            caller = _Waits(context)
            answer = method.answer(message, caller)
            if isinstance(answer, bytes):
                return answer
            try:
                return await caller.future
            except asyncio.CancelledError:
                answer.leave()
                raise
        except Failed as failed:
            await context.abort(_CODES[failed.code], str(failed))
            raise

    return handle


def _conversation(method: Conversation) -> Callable[..., AsyncIterator[bytes]]:
    async def handle(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            async for answer in method.converse(messages):
                yield answer
        except Failed as failed:
            await context.abort(_CODES[failed.code], str(failed))

    return handle


def _traceparent(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent" and isinstance(value, str):
            return value
    return ""
