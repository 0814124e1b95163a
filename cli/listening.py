"""Options of the commands that listen: where, and with what certificate."""

from __future__ import annotations

from pathlib import Path

from warmscaler.cli.errors import UserError
from warmscaler.service.front.tls import ServerTls

LOCAL = "127.0.0.1"


def server_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    """What to serve with; None is in the clear. Raises UserError."""
    if cert is None and key is None:
        if client_ca is not None:
            raise UserError("--tls-client-ca goes with --tls-cert and --tls-key")
        return None
    if cert is None or key is None:
        raise UserError("--tls-cert and --tls-key go together")
    return ServerTls(cert, key, client_ca)
