"""`scaler health`: is a scaler serving there? For the image's health check, and for people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmscaler.cli.console import UserError, out
from warmscaler.service.address import DIRECT, Address, AddressError, parse_host
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
    where = address_of(address, "ADDRESS")
    tls = channel_tls(ca, cert, key, "--ca", "--cert", "--key")
    try:
        status = _status(str(where), timeout_s, None if tls is None else tls.credentials())
    except TlsError as error:
        raise UserError(str(error)) from None
    out.print(f"{where}: {status}", highlight=False, soft_wrap=True)
    sys.exit(0 if status == "SERVING" else 1)


def address_of(text: str, option: str) -> Address:
    """What HOST:PORT says. Raises UserError, which names the option."""
    try:
        return Address.parse(text)
    except AddressError as error:
        raise UserError(f"{option} {text}: {error}") from None


def host_of(text: str, option: str) -> str:
    """A host without a port and without brackets. Raises UserError, which names the option."""
    try:
        return parse_host(text)
    except AddressError as error:
        raise UserError(f"{option} {text}: {error}") from None


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
        grpc.insecure_channel(address, [DIRECT])
        if credentials is None
        else grpc.secure_channel(address, credentials, [DIRECT])
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name})"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
