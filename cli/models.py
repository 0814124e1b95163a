"""`scaler models`: what is in a model store, and which version serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from warmscaler.cli.console import out, print_json, say
from warmscaler.cli.errors import UserError
from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.artifact.store import VERSION_NAME, Pointer, Store, StoreError, Version

app = typer.Typer(
    help="The model store: list, show, promote, roll back, add.",
    no_args_is_help=True,
    add_completion=False,
)
StoreOption = Annotated[
    str,
    typer.Option("--store", help="The store: a folder or an fsspec URL, as s3://bucket/models."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_versions(store: StoreOption, json: Json = False) -> None:
    """Every version, oldest first; the one in service is marked."""
    try:
        opened = Store(store)
        pointer, versions = opened.pointer(), opened.versions()
    except StoreError as error:
        raise UserError(str(error)) from None
    current = None if pointer is None else pointer.version
    rows = [_summary(each, current) for each in versions]
    if json:
        print_json({"store": store, "current": current, "versions": rows})
        return
    if not rows:
        say(f"{store}: no version is there; `scaler retrain` makes one, `scaler models add` too")
        return
    table = Table(title=escape(store), title_justify="left")
    for name in ("", "version", "made", "requests", "apps", "price", "score"):
        justify: Literal["left", "right"] = "right" if name in ("requests", "apps") else "left"
        table.add_column(name, justify=justify, no_wrap=name == "version")
    for row in rows:
        if row["problem"] is not None:
            table.add_row("!", row["version"], escape(row["problem"]))
            continue
        table.add_row(
            "→" if row["current"] else "",
            row["version"],
            escape(str(row["created"])),
            *(_number(row[name]) for name in ("requests", "apps", "price", "score")),
        )
    out.print(table)
    if current is None:
        say("no version is in service")


@app.command("show")
def show(
    store: StoreOption,
    version: Annotated[str | None, typer.Argument(help="Else the one in service.")] = None,
    json: Json = False,
) -> None:
    """A version's manifest: what it was trained on and how it was judged; verifies all its files."""
    try:
        opened = Store(store)
        pointer = opened.pointer()
        name = version or (None if pointer is None else pointer.version)
        if name is None:
            raise UserError(f"{store}: no version is in service; name one")
        _, manifest = opened.read(name)
    except (StoreError, ArtifactError) as error:
        raise UserError(str(error)) from None
    current = pointer is not None and pointer.version == name
    about = {"version": name, "current": current, "manifest": manifest}
    if json:
        print_json(about)
        return
    out.print_json(data=about)


@app.command("promote")
def promote(
    store: StoreOption,
    version: Annotated[str, typer.Argument(help="A version, or the folder of a model to add.")],
    json: Json = False,
) -> None:
    """Puts a version in service; scalers that follow the store take it up within 10 s."""
    try:
        opened = Store(store)
        if not VERSION_NAME.fullmatch(version) and Path(version).is_dir():
            version = opened.add_folder(Path(version))
        pointer = opened.promote(version)
    except (StoreError, ArtifactError) as error:
        raise UserError(str(error)) from None
    _say(pointer, "promoted", json)


@app.command("rollback")
def rollback(store: StoreOption, json: Json = False) -> None:
    """Puts the version before the current one in service again."""
    try:
        pointer = Store(store).rollback()
    except (StoreError, ArtifactError) as error:
        raise UserError(str(error)) from None
    _say(pointer, "rolled back to", json)


@app.command("add")
def add(
    store: StoreOption,
    model: Annotated[Path, typer.Argument(help="A folder made by scaler train.")],
    json: Json = False,
) -> None:
    """Copies a model into the store, and leaves the one in service there."""
    try:
        version = Store(store).add_folder(model)
    except (StoreError, ArtifactError) as error:
        raise UserError(str(error)) from None
    if json:
        print_json({"version": version})
    else:
        out.print(version)


def _say(pointer: Pointer, what: str, json: bool) -> None:
    if json:
        print_json(
            {
                "version": pointer.version,
                "promoted": pointer.promoted,
                "history": list(pointer.history),
            }
        )
    else:
        say(f"{what} {pointer.version}")


def _summary(version: Version, current: str | None) -> dict[str, Any]:
    manifest = version.manifest
    trained_on = manifest.get("trained_on", {})
    judged = manifest.get("judged", {})
    return {
        "version": version.name,
        "current": version.name == current,
        "created": manifest.get("created"),
        "requests": trained_on.get("requests"),
        "apps": trained_on.get("apps"),
        "price": manifest.get("settings", {}).get("price_s_per_gb_s"),
        "score": judged.get("challenger", {}).get("score"),
        "problem": version.problem,
    }


def _number(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
