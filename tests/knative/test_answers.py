"""What stands between us and the API may answer anything: it is a failure of the API, not ours."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User

from tests.knative.stand_in import StandIn
from tests.knative.test_floors import MIN_SCALE, OWNER, revision
from warmscaler.service.knative import api as ours
from warmscaler.service.knative import controller
from warmscaler.service.knative.api import Api, ApiFailure
from warmscaler.service.knative.campaign import Campaign
from warmscaler.service.knative.controller import Controller, FloorOptions
from warmscaler.service.knative.election import Election
from warmscaler.service.looking.looking import Looking
from warmscaler.service.looking.options import LookingOptions

HTML = b"Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
JSON = b"Content-Type: application/json\r\n"
REVISION = {"metadata": {"name": "a", "namespace": "n", "resourceVersion": "5"}}
ADDED = json.dumps({"type": "ADDED", "object": REVISION}).encode() + b"\n"


def at(url: str) -> SingleConfig:
    return SingleConfig("here", Context(cluster="here"), Cluster(server=url), User())


def chunked(*pieces: bytes) -> bytes:
    """What a watch gives until it ends."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces)
    return (
        b"HTTP/1.1 200 -\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )


def answer(said: object) -> bytes:
    content = json.dumps(said).encode()
    return b"HTTP/1.1 200 -\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(content) + content


@asynccontextmanager
async def answered(
    content: bytes | Callable[[str], Coroutine[Any, Any, bytes]],
) -> AsyncIterator[tuple[Api, list[str]]]:
    """An API that always says the same, or what it is told to say to a request line."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                asked.append(head.partition("\r\n")[0])
                length = re.search(r"content-length: (\d+)", head.lower())
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(content if isinstance(content, bytes) else await content(asked[-1]))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    api = Api(at(f"http://{host}:{port}"))
    try:
        yield api, asked
    finally:
        await api.close()
        server.close()


async def watched(api: Api) -> list[str]:
    return [each.kind async for each in api.watch("*", "5")]


CALLS: tuple[Callable[[Api], Coroutine[Any, Any, Any]], ...] = (
    lambda api: api.revisions("*"),
    lambda api: api.revision("n", "a"),
    lambda api: api.patch("n", "a", {}),
    lambda api: api.lease("n", "a"),
    watched,
)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"HTTP/1.1 200 -\r\n" + HTML, 0),
        (b"HTTP/1.1 502 -\r\n" + HTML, 502),
        (b"HTTP/1.1 502 -\r\nContent-Length: 6\r\n\r\n<html>", 502),
        (b"HTTP/1.1 502 -\r\n" + JSON + b"Content-Length: 6\r\n\r\n<html>", 502),
        (b"HTTP/1.1 401 -\r\nContent-Length: 0\r\n\r\n", 401),
        (b"HTTP/1.1 200 -\r\n" + JSON + b"Content-Length: 4\r\n\r\nnull", 0),
    ],
)
def test_what_is_no_answer_of_the_api_is_its_failure(content: bytes, status: int) -> None:
    async def work() -> None:
        async with answered(content) as (api, _):
            for call in CALLS:
                with pytest.raises(ApiFailure) as caught:
                    await call(api)
                assert caught.value.status == status

    asyncio.run(work())


@pytest.mark.parametrize(
    "line", [b'{"type": "ADDED", "obj', b"<html>\n", b"\n", b'{"type": "ADDED", "object": {}}\n']
)
def test_a_watch_that_is_cut_short_has_failed(line: bytes) -> None:
    async def work() -> None:
        async with answered(chunked(ADDED, line)) as (api, _):
            events = api.watch("*", "5")
            assert (await anext(events)).kind == "ADDED"
            with pytest.raises(ApiFailure):
                await anext(events)

    asyncio.run(work())


def test_a_watch_that_ends_at_once_is_not_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ours, "WATCH_AGAIN_S", 0.2)

    async def work() -> None:
        async with answered(chunked()) as (api, asked):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await watched(api)
            assert 1 < len(asked) <= 4

    asyncio.run(work())


def test_all_floors_are_taken_away_in_time_by_an_api_that_takes_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controller, "LEAVING_S", 3.0)
    with_floor = []
    for number in range(100):
        made = revision(f"r{number}", min_scale="1")
        fields: dict[str, Any] = {"f:metadata": {"f:annotations": {f"f:{MIN_SCALE}": {}}}}
        made["metadata"] |= {"managedFields": [{"manager": OWNER, "fieldsV1": fields}]}
        with_floor.append(made)

    async def serve(line: str) -> bytes:
        if line.startswith("PATCH"):
            await asyncio.sleep(0.1)
            return answer(revision(line.split("/")[-1].partition("?")[0]))
        if "watch=true" in line:
            await asyncio.sleep(60.0)
        return answer({"metadata": {"resourceVersion": "7"}, "items": with_floor})

    async def work() -> None:
        async with answered(serve) as (api, asked):
            looking = Looking(LookingOptions(), lambda: 0.5)
            floors = Controller(api, looking, FloorOptions(), lambda: True, lambda: 0.5)
            watch = asyncio.create_task(floors.watch())
            async with asyncio.timeout(10.0):
                while len(floors.known) < 100:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            watch.cancel()
            await floors.leave()
            assert len([line for line in asked if line.startswith("PATCH")]) == 100
            await looking.close()

    asyncio.run(work())


def test_a_lease_that_may_not_be_read_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is ever written without it."""
    said = {"kind": "Status", "status": "Failure", "message": "leases is forbidden", "code": 403}

    async def work() -> None:
        async with answered(answer(said).replace(b" 200 ", b" 403 ")) as (client, _):
            campaign = Campaign(client, Election("me"), "shops", "lease", lambda: None)
            task = asyncio.create_task(campaign.run())
            async with asyncio.timeout(10.0):
                while "no lease" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            task.cancel()

    with caplog.at_level(logging.WARNING, "scaler.knative"):
        asyncio.run(work())
    assert "leases is forbidden" in caplog.text


def test_the_lease_keeps_what_others_wrote_on_it(api: StandIn) -> None:
    labels = {"app.kubernetes.io/part-of": "scaler"}
    meta = {"name": "lease", "namespace": "shops", "labels": labels}
    kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    api.cluster.put("leases", {**kind, "metadata": meta, "spec": {}})

    async def work() -> None:
        client = Api(at(api.url))
        campaign = Campaign(client, Election("me"), "shops", "lease", lambda: None)
        task = asyncio.create_task(campaign.run())
        async with asyncio.timeout(10.0):
            while not campaign.leads():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        task.cancel()
        lease = api.cluster.objects["leases", "shops", "lease"]
        assert lease["spec"]["holderIdentity"] == "me"
        await campaign.resign()
        lease = api.cluster.objects["leases", "shops", "lease"]
        assert (lease["spec"]["holderIdentity"], lease["metadata"]["labels"]) == ("", labels)
        await client.close()

    asyncio.run(work())
