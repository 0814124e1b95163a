"""Options of the commands that listen: where, with what certificate, what they log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from warmscaler.cli.errors import UserError
from warmscaler.service.front.tls import ServerTls
from warmscaler.service.observability.logs import LogFormat, LogLevel

LOCAL = "127.0.0.1"

Port = Annotated[
    int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Where /metrics and /healthz are; else nowhere."),
]
MetricsHost = Annotated[str, typer.Option(help="Address of /metrics.")]
TlsCert = Annotated[Path | None, typer.Option(help="Our certificate (PEM).")]
TlsKey = Annotated[Path | None, typer.Option(help="Its key (PEM).")]
TlsClientCa = Annotated[
    Path | None, typer.Option(help="Callers must show a certificate signed by this one.")
]
LogLines = Annotated[LogFormat, typer.Option(help="How log lines are written.")]
LeastLogged = Annotated[LogLevel, typer.Option(help="The least that is logged.")]


def server_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    """What to serve with; None is in the clear. Raises UserError."""
    if cert is None and key is None:
        if client_ca is not None:
            raise UserError("--tls-client-ca goes with --tls-cert and --tls-key")
        return None
    if cert is None or key is None:
        raise UserError("--tls-cert and --tls-key go together")
    return ServerTls(cert, key, client_ca)
