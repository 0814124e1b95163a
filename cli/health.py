"""`scaler health`: is a scaler serving there? For the image's health check, and for people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmscaler.cli.console import UserError, out
from warmscaler.service.front.tls import PlatformTls, TlsError


def health(
    address: Annotated[str, typer.Argument(help="The scaler's HOST:PORT.")] = "127.0.0.1:9001",
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, max=60, help="Seconds to wait for an answer.")
    ] = 2.0,
    ca: Annotated[
        Path | None, typer.Option(help="Ask over TLS; the scaler must be signed by this one.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="The certificate to show.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
) -> None:
    """Asks the gRPC health service. Exit code 0 where it serves; 1 where it drains or is not."""
    host_and_port(address)
    tls = channel_tls(ca, cert, key, "--ca", "--cert", "--key")
    try:
        status = _status(address, timeout_s, None if tls is None else tls.credentials())
    except TlsError as error:
        raise UserError(str(error)) from None
    out.print(f"{address}: {status}", highlight=False, soft_wrap=True)
    sys.exit(0 if status == "SERVING" else 1)


def host_and_port(address: str, option: str = "ADDRESS") -> tuple[str, int]:
    """The two parts of HOST:PORT. Raises UserError, which names the option."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"{option} {address}: must be HOST:PORT, as 127.0.0.1:9001")
    return host.strip("[]"), int(port)


def channel_tls(
    ca: Path | None, cert: Path | None, key: Path | None, *options: str
) -> PlatformTls | None:
    """What to call somebody with, from three `options`; None is in the clear. Raises UserError."""
    ca_option, cert_option, key_option = options
    if (cert is None) != (key is None):
        raise UserError(f"{cert_option} and {key_option} go together")
    if ca is None:
        if cert is not None:
            raise UserError(f"{cert_option} goes with {ca_option}")
        return None
    return PlatformTls(ca, cert, key)


def _status(address: str, timeout_s: float, credentials: grpc.ChannelCredentials | None) -> str:
    with (
        grpc.insecure_channel(address)
        if credentials is None
        else grpc.secure_channel(address, credentials)
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name})"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
