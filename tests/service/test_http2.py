"""HTTP/2 and gRPC without I/O: what callers send, whole and in pieces, and what attackers send."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from random import Random

import h2.events
import pytest
from h2.connection import H2Connection
from hpack import Encoder, HeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from tests.service.wire_bytes import (
    HELLO,
    MAX_MESSAGE,
    TALK,
    UNARY,
    Echo,
    caller,
    captured,
    echo,
    fields,
    kinds,
    machine,
    message,
)
from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.control import ConnectionLimits
from warmscaler.service.front.http2.frames import ErrorCode, frame
from warmscaler.service.front.http2.headers import Blocks, Fields, literals
from warmscaler.service.front.http2.requests import Request, interpret
from warmscaler.service.front.methods import Method, Unary

ONE = Unary(UNARY, lambda message, _: message)
BLOCK = literals([(name.encode(), value.encode()) for name, value in fields()])
FULL = frames.END_HEADERS
CALMED = ErrorCode.ENHANCE_YOUR_CALM


def talk(here: H2Connection, content: bytes) -> list[h2.events.Event]:
    """What the `h2` package makes of our bytes: it raises where they break a rule."""
    return here.receive_data(content)


def call(path: str, content: bytes, *more: tuple[str, str]) -> dict[str, str]:
    """The trailers of one call, and under "message" what was answered."""
    here, ours = caller(), machine()
    here.send_headers(1, fields(path, *more))
    here.send_data(1, content, end_stream=True)
    told: dict[str, str] = {}
    for event in talk(here, echo(ours, here.data_to_send())):
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            told |= dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, h2.events.DataReceived):
            told["message"] = told.get("message", "") + (event.data or b"").hex()
    assert not ours.http.streams
    return told


@pytest.mark.parametrize(
    ("content", "more", "status"),
    [
        (message(b"ab"), (), "0"),
        (message(b""), (), "0"),
        (b"", (), "12"),
        (message(b"a") * 2, (), "12"),
        (message(b"abc")[:-1], (), "13"),
        (b"\x00\x00", (), "13"),
        (b"\x01" + message(b"a")[1:], (), "13"),
        (b"\x01" + message(b"a")[1:], (("grpc-encoding", "gzip"),), "13"),
        (b"\x00" + (MAX_MESSAGE + 1).to_bytes(4, "big"), (), "8"),
        (message(b"a"), (("grpc-encoding", "snappy"),), "12"),
        (message(b"a"), (("grpc-timeout", "1x"),), "13"),
    ],
)
def test_a_call_ends_as_grpc_says(
    content: bytes, more: tuple[tuple[str, str], ...], status: str
) -> None:
    assert call(UNARY, content, *more)["grpc-status"] == status


@pytest.mark.parametrize("size", [16_400, 17_000, 50_000])
def test_a_call_with_too_much_metadata_is_refused_alone(size: int) -> None:
    here, ours = caller(), machine()
    here.send_headers(1, fields())
    here.send_headers(3, fields(UNARY, ("x-large", "v" * size)))
    for stream in (1, 3):
        here.send_data(stream, message(b"ab"), end_stream=True)
    told = talk(here, echo(ours, here.data_to_send()))
    codes = {
        event.stream_id: str(value)
        for event in told
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived)
        for name, value in event.headers or ()
        if str(name) == "grpc-status"
    }
    assert codes == {1: "0", 3: "8"}
    assert ours.http.closing is None


def test_gzip_comes_in_and_goes_out_plain() -> None:
    packed = gzip.compress(b"abc" * 100)
    sent = b"\x01" + message(packed)[1:]
    told = call(UNARY, sent, ("grpc-encoding", "gzip"))
    assert bytes.fromhex(told["message"]) == message(b"abc" * 100)
    bomb = b"\x01" + message(gzip.compress(bytes(10 * MAX_MESSAGE)))[1:]
    assert call(UNARY, bomb, ("grpc-encoding", "gzip"))["grpc-status"] == "8"


def test_what_is_no_method_and_what_is_no_grpc() -> None:
    assert call("/test.Echo/None", message(b""))["grpc-status"] == "12"
    assert call(UNARY, b"", ("content-length", "0"))["grpc-status"] == "12"
    here, ours = caller(), machine()
    here.send_headers(1, [(":method", "GET"), *fields()[1:]], end_stream=True)
    [answered, *_] = [
        event
        for event in talk(here, echo(ours, here.data_to_send()))
        if isinstance(event, h2.events.ResponseReceived)
    ]
    assert (":status", "405") in [(str(name), str(value)) for name, value in answered.headers]


@pytest.mark.parametrize(("method", "status", "said"), [("HEAD", "405", 0), ("PUT", "405", 61)])
def test_what_is_no_grpc_is_answered_as_http_does(method: str, status: str, said: int) -> None:
    """HEAD has no content in its answer (RFC 9110, 9.3.2); a body of any length is heard to its end."""
    here, ours = caller(), machine()
    here.send_headers(1, [(":method", method), *fields()[1:]], end_stream=method == "HEAD")
    left = 0 if method == "HEAD" else 1_000_000
    headers: dict[str, str] = {}
    content = 0
    while not headers:
        for event in talk(here, echo(ours, here.data_to_send())):
            if isinstance(event, h2.events.ResponseReceived):
                headers = dict(event.headers)  # type: ignore[arg-type]
            elif isinstance(event, h2.events.DataReceived):
                content += len(event.data or b"")
        room = min(left, here.local_flow_control_window(1), 16_384)
        assert headers or room  # else it would wait for ever
        if left:
            left -= room
            here.send_data(1, b"x" * room, end_stream=not left)
    assert (headers[":status"], content, left) == (status, said, 0)
    assert not ours.http.streams


CALL = st.tuples(
    st.sampled_from([UNARY, UNARY, TALK, "/test.Echo/None"]),
    st.sampled_from([None, "1S", "7m", "99999999u", "1x", ""]),
    st.sampled_from([0, 3, 60, 6_000]),
    st.sampled_from(["whole", "whole", "apart", "cut", "padded", "reset", "trailers"]),
)


def sent(calls: list[tuple[str, str | None, int, str]], encoder: Encoder) -> bytes:
    """Calls as callers send them, and as they seldom do."""
    out, behind = HELLO, b""
    for turn, (path, timeout, size, how) in enumerate(calls):
        number, content = 2 * turn + 1, message(bytes(size))
        more = () if timeout is None else (("grpc-timeout", timeout),)
        block = encoder.encode(fields(path, *more))
        out += frame(frames.HEADERS, FULL, number, block)
        if how == "whole":
            out += frame(frames.DATA, frames.END_STREAM, number, content)
        elif how == "apart":  # behind what comes next
            out, behind = out + behind, frame(frames.DATA, frames.END_STREAM, number, content)
        elif how == "cut":
            out += frame(frames.DATA, 0, number, content[:3])
            out += frame(frames.DATA, frames.END_STREAM, number, content[3:])
        elif how == "padded":
            padded = b"\x02" + content + bytes(2)
            out += frame(frames.DATA, frames.END_STREAM | frames.PADDED, number, padded)
        elif how == "reset":
            out += frame(frames.DATA, frames.END_STREAM, number, content)
            out += frames.rst_stream(number, ErrorCode.CANCEL)
        else:
            trailers = encoder.encode([("more", "x")])
            out += frame(frames.DATA, 0, number, content)
            out += frame(frames.HEADERS, FULL | frames.END_STREAM, number, trailers)
    return out + behind


@given(
    st.lists(CALL, max_size=12),
    st.lists(st.integers(1, 3_000), max_size=30),
    st.booleans(),
    st.integers(0, 8),
    st.sampled_from([60, 65_535]),
)
def test_the_short_way_and_the_long_one_say_the_same(
    calls: list[tuple[str, str | None, int, str]],
    sizes: list[int],
    table: bool,
    admitted: int,
    window: int,
) -> None:
    """To the byte, however what comes is cut, with a table of headers or without."""
    encoder = Encoder()
    encoder.header_table_size = 4_096 if table else 0
    content = sent(calls, encoder)
    content = content[: len(HELLO)] + frames.settings({4: window}) + content[len(HELLO) :]
    short, long, pieces = Echo(), Echo(at_once=False), Echo()
    for each in (short, long, pieces):
        each.machine.admitted = admitted
    expected = echo(long.machine, content)
    assert echo(short.machine, content) == expected
    out, at = b"", 0
    for size in (*sizes, len(content)):
        out += echo(pieces.machine, content[at : at + size])
        at += size
    assert out == expected
    for each in (short, pieces):
        assert each.taken_back == long.taken_back
        assert each.machine.admitted == long.machine.admitted
        assert each.machine.http.calm == long.machine.http.calm
        assert each.machine.http.to_return == long.machine.http.to_return
        assert list(each.machine.http.streams) == list(long.machine.http.streams)


@given(st.integers(0, 2), st.lists(st.integers(1, 5_000), max_size=30))
def test_bytes_mean_the_same_in_any_pieces(which: int, sizes: list[int]) -> None:
    content = captured()[which]
    whole, pieces = machine(), machine()
    expected = echo(whole, content)
    out, at = b"", 0
    for size in (*sizes, len(content)):
        out += echo(pieces, content[at : at + size])
        at += size
    assert out == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grpc-timeout", "te", "x", "user-agent", "accept"]),
            st.sampled_from(["1S", "250m", "trailers", "0000001H", "2n", " ", "12345678u"]),
        ),
        max_size=8,
    ),
    st.integers(0, 3),
    st.sampled_from([0, 50, 4_096]),
)
def test_a_block_known_but_for_its_timeout_means_what_it_says(
    more: list[tuple[str, str]], indexed: int, table_bytes: int
) -> None:
    """Against a reader that has seen nothing before but the same bytes."""
    read, encoder = Blocks(meaning), Encoder()
    encoder.header_table_size = table_bytes
    before: list[bytes] = []
    for value in ("1S", "2S", "345m", "67u", "", "x", "8n"):
        own = [(name, value if name == "grpc-timeout" else other) for name, other in more]
        block = b""
        for turn, field in enumerate((*fields(), *own)):
            # One in four may enter the table, if there is one.
            sensitive = turn % 4 != indexed
            block += encoder.encode([HeaderTuple(*field)] if not sensitive else [(*field, True)])
        fresh: Blocks[Request[Method]] = Blocks(meaning)
        for each in before:
            fresh.fields(each)
        before.append(block)
        expected = meaning(fresh.fields(block))
        assert read.request(block) == expected


def meaning(content: Fields) -> Request[Method] | None:
    """What a request asks for."""
    return interpret(content, {UNARY.encode(): ONE})


def test_deadlines_that_vary_are_read_once() -> None:
    read, encoder = Blocks(meaning), Encoder()
    encoder.header_table_size = 0
    blocks = [encoder.encode(fields(UNARY, ("grpc-timeout", f"{each}m"))) for each in (1, 2, 199)]
    for each in blocks[:2]:  # the first says that there is no table from now on
        assert read.request(each) is not None
    known = read.known_but_for_timeout(blocks[2])
    assert known is not None
    assert known.timeout_s == pytest.approx(0.199)


@pytest.mark.parametrize(("window", "size"), [(1, 300), (100, 9_000), (16_384, 9_000)])
def test_an_answer_waits_for_the_callers_window(window: int, size: int) -> None:
    here, ours = caller(), machine()
    here.update_settings({4: window})
    echo(ours, here.data_to_send())
    here.send_headers(1, fields(UNARY))
    here.send_data(1, message(bytes(size)), end_stream=True)
    got, out = b"", echo(ours, here.data_to_send())
    for _ in range(10_000):
        ended = False
        for event in talk(here, out):
            if isinstance(event, h2.events.DataReceived):
                got += event.data or b""
                if event.data and len(got) < len(message(bytes(size))):
                    here.increment_flow_control_window(len(event.data), 1)
            ended |= isinstance(event, h2.events.StreamEnded)
        if ended:
            break
        out = echo(ours, here.data_to_send(), now_s=1e6)
    assert got == message(bytes(size))
    assert ours.http.sending.queued_bytes == 0


def test_a_conversation_holds_no_more_than_its_window() -> None:
    """Nobody takes its messages: its caller may send no more."""
    here, ours = caller(), machine(takes=False)
    here.send_headers(1, fields(TALK))
    for _ in range(4):
        here.send_data(1, message(bytes(15_000)))
    ours.receive(here.data_to_send(), 0.0)
    sent = talk(here, ours.http.take())
    updates = [each for each in sent if isinstance(each, h2.events.WindowUpdated)]
    assert all(each.stream_id == 0 for each in updates)


def _last(content: bytes) -> ErrorCode | None:
    """How a caller that sends so is sent away; None if it is not."""
    ours = machine(ConnectionLimits(streams=100))
    out = echo(ours, HELLO)
    for at in range(0, len(content), 50_000):
        out += echo(ours, content[at : at + 50_000])
    assert (ours.http.closing is None) == (kinds(out)[-1][0] != frames.GOAWAY)
    return None if ours.http.closing is None else ours.http.closing.code


def _resets(count: int) -> bytes:
    return b"".join(
        frame(frames.HEADERS, FULL, 2 * each + 1, BLOCK)
        + frames.rst_stream(2 * each + 1, ErrorCode.CANCEL)
        for each in range(count)
    )


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        (lambda: _resets(5_000), CALMED),  # CVE-2023-44487
        (
            lambda: frame(frames.HEADERS, 0, 1, BLOCK) + frame(9, 0, 1) * 100,
            CALMED,
        ),  # CVE-2024-27316
        (lambda: frame(frames.HEADERS, 0, 1) + frame(9, 0, 1, bytes(16_000)) * 100, CALMED),
        (lambda: frame(frames.PING, 0, 0, bytes(8)) * 5_000, CALMED),
        (lambda: frame(frames.SETTINGS, 0, 0) * 5_000, CALMED),
        (lambda: frame(frames.PRIORITY, 0, 1, bytes(4) + b"\x00") * 5_000, CALMED),
        (lambda: frame(0xFA, 0, 0) * 5_000, CALMED),
        (lambda: frame(frames.HEADERS, FULL, 1, BLOCK) + frame(0, 0, 1) * 5_000, CALMED),
        (lambda: frame(frames.HEADERS, FULL, 2, BLOCK), ErrorCode.PROTOCOL_ERROR),
        (lambda: frame(frames.HEADERS, FULL, 1, b"\xff" * 9), ErrorCode.COMPRESSION_ERROR),
        (lambda: b"\xff" * 9, ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_who_attacks_is_sent_away(attack: Callable[[], bytes], code: ErrorCode) -> None:
    assert _last(attack()) is code


def test_many_that_wait_and_are_given_up_together_keep_their_connection() -> None:
    """As a platform's one connection does when an app's starts hang: gRPC's core sends two
    WINDOW_UPDATEs for each call, and resets all of them at their deadline."""
    ours, numbers = machine(), range(1, 10_001, 2)
    updates = [frames.window_update(number, 5) + frames.window_update(0, 5) for number in numbers]
    opened = b"".join(
        frame(frames.HEADERS, FULL, number, BLOCK) + update
        for number, update in zip(numbers, updates, strict=True)
    )
    resets = b"".join(frames.rst_stream(number, ErrorCode.CANCEL) for number in numbers)
    echo(ours, HELLO + opened)
    assert len(ours.http.streams) == len(numbers)
    echo(ours, resets, 30.0)
    assert ours.http.closing is None
    assert not ours.http.streams


def test_a_connection_without_calls_may_ping_for_ever() -> None:
    ours = machine()
    echo(ours, HELLO)
    for turn in range(10_000):
        echo(ours, frame(frames.PING, 0, 0, bytes(8)), 10.0 * turn)
    assert ours.http.closing is None


def test_streams_beyond_the_limit_are_refused_one_by_one() -> None:
    open_for_ever = b"".join(
        frame(frames.HEADERS, FULL, 2 * each + 1, BLOCK) for each in range(150)
    )
    ours = machine(ConnectionLimits(streams=100))
    out = echo(ours, HELLO + open_for_ever)
    refused = [stream for kind, stream, _ in kinds(out) if kind == frames.RST_STREAM]
    assert len(ours.http.streams) == 100
    assert refused == [2 * each + 1 for each in range(100, 150)]


def test_mutated_bytes_neither_crash_nor_fill_memory() -> None:
    """A short `make fuzz-bytes`."""
    random, seeds = Random(1), captured()
    for _ in range(2_000):
        fuzz_once(random, seeds)


def fuzz_once(random: Random, seeds: list[bytes]) -> None:
    """One machine, given bytes that were good once; what must hold whatever comes."""
    content = bytearray(random.choice(seeds)[: random.choice((200, 2_000, 60_000))])
    for _ in range(random.randrange(1, 8)):
        at = random.randrange(len(content))
        how = random.randrange(4)
        if how == 0:
            content[at] = random.randrange(256)
        elif how == 1:
            del content[at : at + random.randrange(1, 40)]
        elif how == 2:
            content[at:at] = random.randbytes(random.randrange(1, 40))
        else:
            content[at:at] = content[max(0, at - 60) : at]
        if not content:
            return
    ours = machine()
    cut = random.randrange(len(content))
    out = echo(ours, bytes(content[:cut])) + echo(ours, bytes(content[cut:]))
    kinds(out)
    held = sum(len(each.buffer or b"") for each in ours.http.streams.values())
    assert held <= len(content)
    ours.gone()
    assert not ours.http.streams
