"""`scaler explain`: why an app is up or down, live or from a recording."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from warmscaler.cli.console import out, print_json, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.health import address_of, channel_tls

LIVE = "127.0.0.1:9001"
TIMEOUT_S = 5.0


def explain(
    app: Annotated[str, typer.Argument(metavar="APP", help="The app's key.")],
    scaler: Annotated[
        str | None, typer.Option(help=f"Ask the scaler that serves at HOST:PORT ({LIVE}).")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Instead: what `scaler serve --record` wrote.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="With --log: the instant, ISO 8601 in UTC; else the newest request's."),
    ] = None,
    policy: Annotated[str, typer.Option(help="With --log: what would decide.")] = "learned",
    model: Annotated[Path | None, typer.Option(help="With --log: the model it goes by.")] = None,
    price: Annotated[
        float | None, typer.Option(help="With --log: seconds of waiting a GB·s is worth.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Ask over TLS; it is signed by this one.")] = None,
    cert: Annotated[Path | None, typer.Option(help="The certificate to show.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Says why an app is up or down, until when, what is expected next and how sure that is, and
    what its last cold starts cost and why they came."""
    if log is not None and (scaler is not None or ca is not None):
        raise UserError("--log explains from a recording: leave out --scaler and --ca")
    if log is None and (at, policy, model, price) != (None, "learned", None, None):
        raise UserError("--at, --policy, --model and --price go with --log FOLDER")
    told = _live(app, scaler or LIVE, ca, cert, key) if log is None else None
    if told is None and log is not None:
        told = _recorded(app, log, at, policy, model, price)
    if told is None:
        raise UserError(f"{app}: the scaler does not know this app: it was not called, or long ago")
    account, sentences = told
    if json:
        print_json(account | {"sentences": sentences})
        return
    for sentence in sentences:
        say(sentence, out)


def _live(
    app: str, scaler: str, ca: Path | None, cert: Path | None, key: Path | None
) -> tuple[dict[str, Any], list[str]] | None:
    import grpc

    from warmscaler.service.address import DIRECT
    from warmscaler.service.front.explaining import PATH
    from warmscaler.service.front.tls import TlsError
    from warmscaler.service.proto import explain_pb2 as pb

    address = str(address_of(scaler, "--scaler"))
    tls = channel_tls(ca, cert, key, "--ca", "--cert", "--key")
    try:
        credentials = None if tls is None else tls.credentials()
    except TlsError as error:
        raise UserError(str(error)) from None
    with (
        grpc.insecure_channel(address, [DIRECT])
        if credentials is None
        else grpc.secure_channel(address, credentials, [DIRECT])
    ) as channel:
        ask = channel.unary_unary(PATH, pb.AppRequest.SerializeToString, pb.AppReply.FromString)
        try:
            reply = ask(pb.AppRequest(app=app), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise UserError(
                f"{address}: no explanation ({error.code().name}): does `scaler serve` listen there?"
            ) from None
    return (orjson.loads(reply.account), list(reply.sentences)) if reply.known else None


def _recorded(
    app: str, log: Path, at: str | None, policy: str, model: Path | None, price: float | None
) -> tuple[dict[str, Any], list[str]]:
    from warmscaler.data.recording import is_recording, read_app
    from warmscaler.models.artifact.folder import ArtifactError, read_artifact
    from warmscaler.models.learned.habits import Model
    from warmscaler.models.registry import PolicyError, make_policy
    from warmscaler.service.explaining.account import as_json
    from warmscaler.service.explaining.words import sentences
    from warmscaler.simulator.recorded import recorded_account

    if not is_recording(log):
        raise UserError(f"--log {log}: is no recording; `scaler serve --record FOLDER` writes one")
    at_ms = None if at is None else _instant_ms(at)
    try:
        learned = read_artifact(model) if model is not None else Model()
        chosen = make_policy(policy, learned if policy == "learned" else None, price)
    except (ArtifactError, PolicyError) as error:
        raise UserError(str(error)) from None
    rows = read_app(log, app, at_ms)
    newest = rows.select((rows["arrival_ms"] + rows["wait_ms"] + rows["duration_ms"]).alias("end"))
    now_ms = float(newest["end"].max()) if at_ms is None else at_ms  # type: ignore[arg-type]
    account = recorded_account(rows, chosen, now_ms)
    return as_json(account), sentences(account)


def _instant_ms(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--at {text}: it must be like 2026-11-23T09:00:00") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000.0
