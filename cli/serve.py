"""`scaler serve`: the gRPC service."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from cli.console import UserError
from cli.health import host_and_port
from models.artifact import ArtifactError, read_artifact
from models.registry import PolicyError, make_policy
from service.neighbour import stop_when_closed
from service.server import DRAIN_GRACE_S, PortInUse, serve_until_signal


def serve(
    host: Annotated[
        str, typer.Option(envvar="SCALER_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9001,
    platform: Annotated[str, typer.Option(help="The platform's HOST:PORT.")] = "127.0.0.1:50051",
    policy: Annotated[str, typer.Option(help="fixed:SECONDS, reference, learned, …")] = "learned",
    model: Annotated[Path | None, typer.Option(help="A model made by `scaler train`.")] = None,
    price: Annotated[
        float | None, typer.Option(help="Seconds of waiting that a GB·s is worth.")
    ] = None,
    drain_s: Annotated[
        float, typer.Option("--drain", min=0, help="Seconds to finish and give back after SIGTERM.")
    ] = DRAIN_GRACE_S,
    until_closed: Annotated[
        str | None,
        typer.Option(help="Stop when HOST:PORT closes after it was open: the contest's 9000."),
    ] = None,
) -> None:
    """Serves Assign and Idle until SIGTERM, then drains and gives every slot back.

    The platform is called when the first start needs it: it may come up after the scaler.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if until_closed is not None:
        stop_when_closed(*host_and_port(until_closed))
    try:
        learned = read_artifact(model) if model is not None else None
        chosen = make_policy(policy, model=learned, price=price)
        uvloop.run(serve_until_signal(chosen, platform, f"{host}:{port}", grace_s=drain_s))
    except (ArtifactError, PolicyError, PortInUse) as error:
        raise UserError(str(error)) from None
