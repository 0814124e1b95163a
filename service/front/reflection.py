"""gRPC's server reflection, by grpcio's own servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import _async, reflection, reflection_pb2

from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.methods import Conversation, Failed, Method


def reflection_methods(services: Sequence[str]) -> list[Method]:
    """Tells of `services`, by their full names, and of itself."""
    servicer = _async.ReflectionServicer((*services, reflection.SERVICE_NAME))

    async def tell(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for reply in servicer.ServerReflectionInfo(_requests(messages), None):
            yield reply.SerializeToString()

    return [Conversation(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo", tell)]


async def _requests(
    messages: AsyncIterator[bytes],
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    async for message in messages:
        try:
            yield reflection_pb2.ServerReflectionRequest.FromString(message)
        except DecodeError:
            raise Failed(Code.INVALID_ARGUMENT, "the message cannot be read") from None
