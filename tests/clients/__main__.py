"""`make clients`: what clients of other makes see of `scaler serve`.

Ends with 0 if all is as gRPC's rules say, 1 if something is not, 3 if it is incomplete: a client is
not on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.bench.table import step
from tests.clients import found, grpc_rules, plain_rules
from tests.clients.caller import calling
from tests.clients.found import Client
from tests.clients.result import Result, Wrong, show
from tests.clients.stage import Stage, stage
from tests.several.envoy import envoy

INCOMPLETE = 3
CLIENTS = ("grpcio", "grpc-go", "grpc-js", "envoy", "h2load", "curl")
GRPC_JS_AT = Path("out/clients")


class Run:
    """All clients, one after the other."""

    def __init__(self, folder: Path, count: int, drains: int) -> None:
        self._folder, self._count, self._drains = folder, count, drains
        self.results: list[Result] = []

    async def grpc(self, client: Client, *, proxied: bool = False) -> None:
        """A gRPC client, before the scaler or before Envoy."""
        if self._is_missing(client):
            return
        async with self._stage(proxied=proxied) as (there, address):
            port = int(address.rpartition(":")[2])
            async with calling(client, address) as caller:
                many = partial(grpc_rules.many, count=self._count, port=port)
                for check in (grpc_rules.unary, grpc_rules.deadline, grpc_rules.cancel):
                    await self._see(client, check.__name__, check(there, caller))
                await self._see(client, f"{self._count:,} calls", many(there, caller))
        for _ in range(self._drains):
            async with (
                self._stage(proxied=proxied) as (there, address),
                calling(client, address) as caller,
            ):
                await self._see(client, "drain", grpc_rules.drain(there, caller))

    async def plain(self, client: Client, rules: tuple[plain_rules.Rule, ...]) -> None:
        """A client that knows HTTP/2 alone."""
        if self._is_missing(client):
            return
        async with stage() as there:
            for rule in rules:
                what = rule.what.format(count=self._count)
                await self._see(client, what, rule.check(there, client.command[0], self._count))

    @asynccontextmanager
    async def _stage(self, *, proxied: bool) -> AsyncIterator[tuple[Stage, str]]:
        async with stage() as there:
            proxy = envoy(self._folder, [there.port]) if proxied else nullcontext(None)
            entered = await asyncio.to_thread(proxy.__enter__)
            try:
                yield there, there.address if entered is None else entered.address
            finally:
                proxy.__exit__(None, None, None)

    def _is_missing(self, client: Client) -> bool:
        if client.missing:
            self.results.append(Result(client.name, "", client.missing, "not here"))
        return bool(client.missing)

    async def _see(self, client: Client, what: str, check: plain_rules.Check) -> None:
        step(f"{client.name}: {what}")
        try:
            self.results.append(Result(client.name, what, await check, "as the rules say"))
        except (Wrong, TimeoutError) as wrong:
            seen = str(wrong) or "it did not come to that in time"
            self.results.append(Result(client.name, what, seen, "WRONG"))


async def _all(run: Run, folder: Path, options: argparse.Namespace) -> None:
    clients: dict[str, Callable[[], Awaitable[None]]] = {
        "grpcio": lambda: run.grpc(found.grpcio()),
        "grpc-go": lambda: run.grpc(found.grpc_go(folder)),
        "grpc-js": lambda: run.grpc(found.grpc_js(options.grpc_js, setup=options.setup)),
        "envoy": lambda: run.grpc(found.envoy_proxy(), proxied=True),
        "h2load": lambda: run.plain(found.tool("h2load", "nghttp2-client"), plain_rules.H2LOAD),
        "curl": lambda: run.plain(found.tool("curl", "curl"), plain_rules.CURL),
    }
    for name in options.client or CLIENTS:
        await clients[name]()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="calls on one connection")
    parser.add_argument("--drains", type=int, default=3, help="for each gRPC client")
    parser.add_argument(
        "--client", action="append", choices=CLIENTS, help="this one alone; may be repeated"
    )
    parser.add_argument("--grpc-js", type=Path, default=GRPC_JS_AT, help="where node_modules is")
    parser.add_argument("--setup", action="store_true", help="let npm install grpc-js there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), options.count, options.drains)
        asyncio.run(_all(run, Path(folder), options))
    if options.json:
        print(json.dumps([asdict(each) for each in run.results]))
    else:
        show(run.results)
    verdicts = {each.verdict for each in run.results}
    if "WRONG" in verdicts:
        sys.exit(1)
    if "not here" in verdicts:
        print("incomplete: a client is not on this machine, see above", file=sys.stderr)
        sys.exit(INCOMPLETE)


if __name__ == "__main__":
    main()
