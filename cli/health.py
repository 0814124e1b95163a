"""`scaler health`: is a scaler serving there? For the image's health check, and for people.

The check runs every few seconds beside every scaler: it has a parser of the standard library's, as
to start typer with its options would take as much CPU as all the rest.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmscaler.cli.errors import UserError
from warmscaler.service.address import DIRECT, Address, AddressError, parse_host
from warmscaler.service.front.tls import PlatformTls, TlsError


def main(words: list[str]) -> NoReturn:
    """Exit code 0 where it serves, 1 where it does not. Raises UserError."""
    asked = _parser().parse_args(words)
    where = address_of(asked.address, "ADDRESS")
    if not 0.1 <= asked.timeout_s <= 60.0:
        raise UserError(f"--timeout {asked.timeout_s:g}: it must be from 0.1 to 60 seconds")
    tls = channel_tls(asked.ca, asked.cert, asked.key, "--ca", "--cert", "--key")
    try:
        credentials = None if tls is None else tls.credentials()
        status = _status(str(where), asked.timeout_s, credentials, asked.name)
    except TlsError as error:
        raise UserError(str(error)) from None
    print(f"{where}: {status}")
    sys.exit(0 if status == "SERVING" else 1)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see scaler health --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "scaler health",
        description="Asks the gRPC health service. Exit code 0 where it serves; 1 where it drains or"
        " is not.",
        epilog="Example: scaler health 127.0.0.1:9001. What is not said is taken from the environment:"
        " SCALER_HEALTH_ADDRESS, _CA, _NAME, _CERT and _KEY, as a container's check wants it.",
        allow_abbrev=False,
    )

    def add(option: str, *, default: str | None = None, **how: Any) -> None:
        set_outside = os.environ.get(f"SCALER_HEALTH_{option.lstrip('-').upper()}")
        parser.add_argument(option, default=set_outside or default, **how)

    add("address", nargs="?", default="127.0.0.1:9001", help="The scaler's HOST:PORT (%(default)s)")
    parser.add_argument(
        "--timeout",
        dest="timeout_s",
        metavar="SECONDS",
        type=float,
        default=2.0,
        help="Seconds to wait for an answer (%(default)s)",
    )
    add("--ca", type=Path, help="Ask over TLS; the scaler must be signed by this one")
    add("--name", help="The name in its certificate, where that is another than HOST")
    add("--cert", type=Path, help="The certificate to show")
    add("--key", type=Path, help="Its key")
    return parser


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


def _status(
    address: str, timeout_s: float, credentials: grpc.ChannelCredentials | None, name: str | None
) -> str:
    named = [] if name is None else [("grpc.ssl_target_name_override", name)]
    with (
        grpc.insecure_channel(address, [DIRECT])
        if credentials is None
        else grpc.secure_channel(address, credentials, [DIRECT, *named])
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name})"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))
