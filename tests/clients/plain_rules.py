"""What clients that know HTTP/2 alone must see: h2load and curl, with messages in raw bytes."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from tests.clients.caller import SERVICE, Ended, calling
from tests.clients.found import grpcio
from tests.clients.result import expect
from tests.clients.stage import START_MS, Stage, meta, refused
from warmscaler.service.front.http2.frames import PREFIX
from warmscaler.service.proto import scaler_pb2 as pb

Check = Awaitable[str]
HEALTH = "/grpc.health.v1.Health/Check"
GRPC = ("content-type: application/grpc", "te: trailers")
AT_ONCE = 64
GOES_BY_S = 0.5


@dataclass(frozen=True, slots=True)
class Rule:
    """Something to see; `check` gets the scaler, the client's program, and how many calls."""

    what: str
    """It may name the `count`."""
    check: Callable[[Stage, str, int], Check]


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl got."""

    exit_code: int
    status: int
    headers: dict[str, str]
    """And trailers."""
    body: bytes

    @property
    def grpc(self) -> str:
        """gRPC's code and text."""
        return f"{self.headers.get('grpc-status')} {self.headers.get('grpc-message', '')}".strip()


async def _curl(
    program: str,
    stage: Stage,
    path: str,
    *options: str,
    message: Message | None = None,
    http: str = "--http2-prior-knowledge",
) -> Answer:
    """One request; a POST of gRPC's where there is a message."""
    with tempfile.TemporaryDirectory() as folder:
        head, body, sent = (Path(folder, name) for name in ("head", "body", "sent"))
        if message is not None:
            sent.write_bytes(_framed(message))
            options = (*options, "--data-binary", f"@{sent}")
            options += tuple(part for field in GRPC for part in ("-H", field))
        command = (program, "--silent", http, "--max-time", "20", "-D", str(head), "-o", str(body))
        process = await asyncio.create_subprocess_exec(
            *command, *options, f"http://{stage.address}{path}", stdout=DEVNULL, stderr=DEVNULL
        )
        code = await process.wait()
        lines = head.read_text().splitlines() if head.exists() else []
        status = int(lines[0].split()[1]) if lines and lines[0].startswith("HTTP/") else 0
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        return Answer(code, status, fields, body.read_bytes() if body.exists() else b"")


def _framed(message: Message) -> bytes:
    content = message.SerializeToString()
    return PREFIX.pack(0, len(content)) + content


def _assign(app: str) -> pb.AssignRequest:
    return pb.AssignRequest(request_id="r", timestamp=1, meta_data=meta(app))


def _idle(instance: str, app: str = "fast") -> pb.IdleRequest:
    assignment = pb.Assignment(request_id="r", meta_key=app, instance_id=instance)
    return pb.IdleRequest(assigment=assignment, result=pb.Result(status_code=200))


def _assigned(answer: Answer) -> str:
    expect((answer.exit_code, answer.status, answer.grpc) == (0, 200, "0"), answer)
    return _instance(answer)


def _instance(answer: Answer) -> str:
    size = PREFIX.unpack_from(answer.body)[1]
    expect(size == len(answer.body) - PREFIX.size, f"{answer.body!r}")
    return pb.AssignReply.FromString(answer.body[PREFIX.size :]).assigment.instance_id


async def _used_once(stage: Stage) -> Ended:
    """An instance that is idle again."""
    async with calling(grpcio(), stage.address) as caller:
        assigned = await caller.assign("fast")
        expect(str(await caller.idle(assigned)) == "OK", "its Idle")
        return assigned


# curl

ANSWERED_EARLY = 92
"""curl 7.88 takes an answer that comes before it has sent its message for a broken stream, now and then."""


async def curl_unary(stage: Stage, program: str, count: int) -> str:
    """Cold, warm, and what a call is refused with."""
    cold = _assigned(await _curl(program, stage, f"{SERVICE}/Assign", message=_assign("fast")))
    done = await _curl(program, stage, f"{SERVICE}/Idle", message=_idle(cold))
    expect((done.grpc, done.body) == ("0", bytes(PREFIX.size)), done)
    warm = _assigned(await _curl(program, stage, f"{SERVICE}/Assign", message=_assign("fast")))
    expect(warm == cold, "the warm Assign got another instance")
    await _curl(program, stage, f"{SERVICE}/Idle", message=_idle(warm))
    wrong = await _curl(program, stage, f"{SERVICE}/Idle", message=_idle("nobody"))
    expect(wrong.grpc == "5 there is no such instance", wrong)
    for _ in range(5):
        none = await _curl(program, stage, f"{SERVICE}/Nothing", message=_idle("nobody"))
        if none.exit_code != ANSWERED_EARLY:
            break
    expect((none.status, none.grpc) == (200, "12 there is no such method"), none)
    return "grpc-status 0 in the trailers; warm on the same instance; 5, 12 with their messages"


async def curl_deadline(stage: Stage, program: str, count: int) -> str:
    """curl does not know what grpc-timeout is: the answer is ours."""
    began_s = time.monotonic()
    timeout = ("-H", "grpc-timeout: 300m")
    path = f"{SERVICE}/Assign"
    late = await _curl(program, stage, path, *timeout, message=_assign("slow-0"))
    took_ms = 1000.0 * (time.monotonic() - began_s)
    expect((late.status, late.grpc) == (200, "4 the deadline passed"), late)
    expect(took_ms < START_MS, f"after {took_ms:.0f} ms")
    await stage.until_waiting(0)
    return f"grpc-status 4 of 300 ms after {took_ms:.0f} ms; forgotten"


async def curl_cancel(stage: Stage, program: str, count: int) -> str:
    """curl gives up, and closes its connection."""
    gone = await stage.metric("scaler_requests_unserved_total", outcome="caller_gone")
    short = ("--max-time", "0.3")
    path = f"{SERVICE}/Assign"
    left = await _curl(program, stage, path, *short, message=_assign("slow-1"))
    expect(left.exit_code == 28, left)  # its own time is over
    await stage.until(gone + 1, "scaler_requests_unserved_total", outcome="caller_gone")
    await stage.until_waiting(0)
    return "it closes its connection; forgotten"


async def curl_other_http(stage: Stage, program: str, count: int) -> str:
    """What is not gRPC, and what is not HTTP/2."""
    posted = await _curl(program, stage, f"{SERVICE}/Assign", "-d", "{}")
    expect(posted.status == 415, f"a POST of no gRPC: {posted}")
    got = await _curl(program, stage, f"{SERVICE}/Assign")
    expect((got.status, got.headers.get("allow")) == (405, "POST"), f"GET: {got}")
    for http in ("--http1.1", "--http2"):
        old = await _curl(program, stage, f"{SERVICE}/Assign", http=http)
        expect(old.exit_code not in (0, 28) and old.status == 0, f"{http}: {old}")
    served = await _curl(program, stage, HEALTH, message=health_pb2.HealthCheckRequest())
    expect(served.grpc == "0", f"health after that: {served}")
    return "POST of no gRPC 415, GET 405, HTTP/1.1 closed at once, and it goes on serving"


async def curl_drain(stage: Stage, program: str, count: int) -> str:
    """SIGTERM while it waits for a start."""
    path = f"{SERVICE}/Assign"
    waits = asyncio.create_task(_curl(program, stage, path, message=_assign("slow-2")))
    await stage.until_waiting(1)
    ends = asyncio.create_task(stage.end())
    served = await waits  # of a connection that is told to go, curl 7.88 shows no trailers
    expect((served.exit_code, served.status) == (0, 200), served)
    instance = _instance(served)
    late = await _curl(program, stage, path, message=_assign("fast"))
    expect(late.grpc.startswith("14 "), f"a new Assign: {late}")
    done = await _curl(program, stage, f"{SERVICE}/Idle", message=_idle(instance, "slow-2"))
    expect(done.grpc == "0", done)
    code = await ends
    expect(code == 0, f"exit code {code}")
    expect(stage.platform.live_slots == 0, f"{stage.platform.live_slots} slots left")
    expect(refused(stage.address), "somebody listens")
    return f"what waited is served, a new Assign gets {late.grpc!r}, the Idle 0; exit 0"


# h2load


async def _h2load(
    program: str, stage: Stage, path: str, message: Message, *options: object
) -> dict[str, int]:
    """What it counted, by its own words."""
    with tempfile.NamedTemporaryFile() as sent:
        sent.write(_framed(message))
        sent.flush()
        headers = [part for field in GRPC for part in ("-H", field)]
        loads = ("-c", 1, "-m", AT_ONCE, "-d", sent.name, *headers, *options)
        process = await asyncio.create_subprocess_exec(
            program, *map(str, loads), f"http://{stage.address}{path}", stdout=PIPE
        )
        out, _ = await process.communicate()
    text = out.decode()
    counted: dict[str, Any] = {}
    for line in re.findall(r"^(?:requests|status codes): (.*)$", text, re.MULTILINE):
        counted |= {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", line)}
    found = re.search(r"\((\d+)\) data$", text, re.MULTILINE)
    counted["data"] = int(found[1]) if found is not None else -1
    return counted


async def h2load_idles(stage: Stage, program: str, count: int) -> str:
    """Idles that came before: each is Ok and changes nothing."""
    used = await _used_once(stage)
    counted = await _h2load(program, stage, f"{SERVICE}/Idle", _idle(used.instance), "-n", count)
    expect(counted["succeeded"] == counted["2xx"] == count, counted)
    expect(counted["data"] == count * PREFIX.size, counted)  # an error would have no message
    return f"{count:,} Idles, all 2xx with a message each, on one connection"


async def h2load_health(stage: Stage, program: str, count: int) -> str:
    """Checks of health."""
    request = health_pb2.HealthCheckRequest()
    counted = await _h2load(program, stage, HEALTH, request, "-n", count)
    size = len(_framed(health_pb2.HealthCheckResponse(status=1)))
    expect(counted["succeeded"] == counted["2xx"] == count, counted)
    expect(counted["data"] == count * size, counted)
    return f"{count:,} checks of health, all 2xx and SERVING, on one connection"


async def h2load_drain(stage: Stage, program: str, count: int) -> str:
    """SIGTERM in the midst: it has no more to say than what came back of what it sent."""
    request = health_pb2.HealthCheckRequest()
    load = asyncio.create_task(_h2load(program, stage, HEALTH, request, "-n", 10_000_000))
    await asyncio.sleep(GOES_BY_S)
    code = await stage.end()
    counted = await load
    expect(code == 0, f"exit code {code}")
    expect(counted["succeeded"] > 0 and counted["failed"] == counted["errored"], counted)
    lost = counted["started"] - counted["done"]
    expect(lost == 0, f"{lost} without an answer: {counted}")
    return f"{counted['succeeded']:,} answered, {lost} begun and not answered; exit 0"


H2LOAD = (
    Rule("{count:,} calls: Idle", h2load_idles),
    Rule("{count:,} calls: health", h2load_health),
    Rule("drain", h2load_drain),
)
CURL = (
    Rule("unary", curl_unary),
    Rule("deadline", curl_deadline),
    Rule("cancel", curl_cancel),
    Rule("what is not gRPC", curl_other_http),
    Rule("drain", curl_drain),
)
