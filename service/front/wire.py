"""How the Scaler service hangs on a gRPC server: as generated, but for bytes that are no message.

The generated deserialisers raise, and gRPC then answers UNKNOWN and logs a traceback: for each of
whatever a caller likes to send. Here such bytes are a message in which everything is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerServicer

SERVICE = pb.DESCRIPTOR.services_by_name["Scaler"].full_name

_M = TypeVar("_M", bound=Message)


def add_scaler(servicer: ScalerServicer, server: grpc.aio.Server) -> None:
    """Serves `servicer` on `server`, which is not started yet."""
    handlers = {
        "Assign": grpc.unary_unary_rpc_method_handler(
            servicer.Assign, _reader(pb.AssignRequest), pb.AssignReply.SerializeToString
        ),
        "Idle": grpc.unary_unary_rpc_method_handler(
            servicer.Idle, _reader(pb.IdleRequest), pb.IdleReply.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    # Without it gRPC looks each call's method up by name: a fifth of what a call costs.
    server.add_registered_method_handlers(SERVICE, handlers)  # type: ignore[attr-defined]


def _reader(kind: type[_M]) -> Callable[[bytes], _M]:
    read = kind.FromString

    def reader(content: bytes) -> _M:
        try:
            return read(content)
        except DecodeError:
            return kind()

    return reader
