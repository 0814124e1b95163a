"""One gRPC client's process: calls go to it and come back as lines, see `programs`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from asyncio.subprocess import PIPE, Process
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.clients.found import Client
from tests.clients.stage import meta
from tests.service.running import PATIENCE_S
from warmscaler.service.front.http2.requests import Code
from warmscaler.service.proto import scaler_pb2 as pb

SERVICE = "/serverless.simulator.Scaler"
APP, AT = "x-scaler-app", "x-scaler-at"
"""What Envoy sends a call by."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended for its caller."""

    code: Code
    text: str
    message: bytes
    at: str
    """Which scaler answered, by Envoy."""

    @property
    def instance(self) -> str:
        """Of an Assign."""
        return pb.AssignReply.FromString(self.message).assigment.instance_id

    def __str__(self) -> str:
        if self.message[:1] == b"\x08":  # a reply's status, which is there where it is not Ok
            return f"{self.code.name}, {pb.Status.Name(pb.Status.ValueType(self.message[1]))}"
        return f"{self.code.name}: {self.text}" if self.text else self.code.name


@dataclass
class Caller:
    """A client that runs."""

    _process: Process
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _open: dict[int, asyncio.Future[Ended]] = field(default_factory=dict)

    def call(
        self,
        method: str,
        message: bytes,
        headers: dict[str, str],
        timeout_ms: int | None = None,
    ) -> asyncio.Task[Ended]:
        """Is under way when it returns; cancelled, the client cancels its call."""
        number = next(self._numbers)
        said: dict[str, object] = {"id": number, "path": f"{SERVICE}/{method}", "headers": headers}
        said["message"] = b64encode(message).decode()
        if timeout_ms is not None:
            said["timeout_ms"] = timeout_ms
        self._open[number] = asyncio.get_running_loop().create_future()
        self._write(said)
        return asyncio.create_task(self._ended(number))

    def assign(
        self, app: str, request_id: str = "r", timeout_ms: int | None = 20_000
    ) -> asyncio.Task[Ended]:
        """An Assign."""
        request = pb.AssignRequest(request_id=request_id, timestamp=1, meta_data=meta(app))
        return self.call("Assign", request.SerializeToString(), {APP: app}, timeout_ms)

    def idle(self, assigned: Ended) -> asyncio.Task[Ended]:
        """The Idle of an Assign."""
        assignment = pb.AssignReply.FromString(assigned.message).assigment
        request = pb.IdleRequest(assigment=assignment, result=pb.Result(status_code=200))
        headers = {APP: assignment.meta_key} | ({AT: assigned.at} if assigned.at else {})
        return self.call("Idle", request.SerializeToString(), headers, 20_000)

    def _write(self, said: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said).encode() + b"\n")

    async def _ended(self, number: int) -> Ended:
        future = self._open[number]
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._write({"id": number, "cancel": True})
            return await future

    async def read(self) -> None:
        """Until the client ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            message, at = b64decode(said["message"] or ""), said["headers"].get(AT, "")
            ended = Ended(Code(said["code"]), said["text"], message, at)
            self._open.pop(said["id"]).set_result(ended)


@asynccontextmanager
async def calling(client: Client, address: str) -> AsyncIterator[Caller]:
    """The client, with one channel to `address`."""
    environment = os.environ | dict(client.environment)
    process = await asyncio.create_subprocess_exec(
        *client.command, address, stdin=PIPE, stdout=PIPE, env=environment, limit=1 << 22
    )
    caller = Caller(process)
    reading = asyncio.create_task(caller.read())
    try:
        yield caller
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading
