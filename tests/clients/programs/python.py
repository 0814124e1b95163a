"""The client of grpcio: see the package."""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64decode, b64encode
from typing import Any

import grpc.aio

from warmscaler.service.address import DIRECT


async def _call(channel: grpc.aio.Channel, calls: dict[int, Any], said: dict[str, Any]) -> None:
    timeout_ms = said.get("timeout_ms")
    call = channel.unary_unary(said["path"], None, None)(
        b64decode(said["message"]),
        timeout=None if timeout_ms is None else timeout_ms / 1000.0,
        metadata=tuple(said["headers"].items()),
    )
    calls[said["id"]] = call
    message, headers = b"", {}
    try:
        message = await call
        headers = {str(key): str(value) for key, value in await call.initial_metadata()}
        code, text = 0, ""
    except grpc.aio.AioRpcError as error:
        code, text = error.code().value[0], error.details() or ""
    except asyncio.CancelledError:
        code, text = grpc.StatusCode.CANCELLED.value[0], ""
    del calls[said["id"]]
    ended = {"id": said["id"], "code": code, "text": text, "headers": headers}
    print(json.dumps(ended | {"message": b64encode(message).decode()}), flush=True)


async def _main(address: str) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    calls: dict[int, Any] = {}
    tasks: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(address, [DIRECT]) as channel:
        while line := await lines.readline():
            said = json.loads(line)
            if said.get("cancel"):
                if said["id"] in calls:
                    calls[said["id"]].cancel()
                continue
            task = asyncio.create_task(_call(channel, calls, said))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
