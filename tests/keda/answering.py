"""What stands where a Prometheus should, and answers as it is told to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

Answer = tuple[int, bytes]
Form = dict[str, str]
QUERY = re.compile(r'label_replace\(\(\n(.*?)\n\), "scaler_query", "(\d+)"', re.DOTALL)


def success(kind: str, result: list[Any], **more: Any) -> Answer:
    data = {"resultType": kind, "result": result}
    return 200, json.dumps({"status": "success", "data": data, **more}).encode()


@dataclass
class Answering:
    """By default each query gives its value in `values`, now and in the past."""

    values: dict[str, float] = field(default_factory=dict)
    instead: Callable[[Form], Awaitable[Answer | None]] | None = None
    """Answers in its stead, unless that gives None."""
    drips: str = "-"
    """A query with this in it is answered without end."""
    url: str = ""

    def answer(self, form: Form) -> Answer:
        if "step" in form:
            times = [float(form["start"]), float(form["end"])]
            value = str(self.values[form["query"]])
            return success("matrix", [{"metric": {}, "values": [[at, value] for at in times]}])
        return success(
            "vector",
            [
                {"metric": {"scaler_query": n}, "value": [float(form["time"]), str(self.values[q])]}
                for q, n in QUERY.findall(form["query"])
                if q in self.values
            ],
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode().lower():
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                form = dict(parse_qsl(body.decode()))
                while self.drips in form["query"] and not self.instead:
                    writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 999999999\r\n\r\n ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
                told = None if self.instead is None else await self.instead(form)
                status, content = told or self.answer(form)
                writer.write(
                    b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
                )
                for piece in [content[at : at + 65_536] for at in range(0, len(content), 65_536)]:
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def answering(**values: float) -> AsyncIterator[Answering]:
    found = Answering(values)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    found.url = f"http://{host}:{port}"
    try:
        yield found
    finally:
        server.close()
