"""Addresses in every spelling, and callers behind a proxy that is none of our business."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.running import META, get, scaler, served
from warmscaler.service.address import Address, AddressError, parse_host
from warmscaler.service.proto import scaler_pb2 as pb

pytestmark = pytest.mark.usefixtures("transport")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@given(st.ip_addresses().map(str) | st.sampled_from(["localhost", "platform.example", "a_b-c"]))
def test_what_is_formed_is_read_again(host: str) -> None:
    address = Address(parse_host(host), 9001)
    assert Address.parse(str(address)) == address
    assert parse_host(f"[{host}]" if ":" in host else host) == host


NO_ADDRESS = (
    *("", ":1", "a", "a:", "a:0", "a:65536", "a:x", "a:²", "http://a:1", "dns:///a:1", "a b:1"),
    *("::1", "::1:9001", "fe80::1:50051", "[::1]", "[::1:9001", "::1]:9001", "[a]:9001"),
    *("1.2.3:1", "256.1.1.1:1"),
)


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(text)


def test_a_url_is_not_taken_for_an_ipv6_address() -> None:
    with pytest.raises(AddressError, match="HOST:PORT alone"):
        Address.parse("http://127.0.0.1:50051")


@pytest.mark.parametrize("text", ["", "a:9001", "[::1]:9001", "[::1", "[a]", "[1.2.3.4]", "a b"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_host(text)


def health_of(*words: str, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "warmscaler", "health", "--timeout", "20", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment or None)
    return done.returncode, done.stdout


@ipv6
@pytest.mark.parametrize("host", ["[::1]", "::", "localhost"])
def test_served_and_measured_on_ipv6(host: str) -> None:
    ours = ("--policy", "fixed:300", "--metrics-port", 0, "--host", host, "--metrics-host", host)
    with scaler(*ours) as process:
        port = process.address.rpartition(":")[2]
        assert health_of(f"[::1]:{port}") == (0, f"[::1]:{port}: SERVING\n")
        page = process.page.rpartition(":")[2]
        where = "127.0.0.1" if host == "localhost" else "[::1]"
        assert get(f"http://{where}:{page}/healthz")[0] == 200


@pytest.fixture
def diverted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for everything, behind which nobody is."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("diverted")
def test_no_call_of_ours_takes_a_proxy() -> None:
    async def run() -> None:
        # The client of the tests would take it too: only the platform is called through ours.
        async with served() as here:
            instance_id = await here.server.driver.assign("r", META)
            mine = pb.Assignment(request_id="r", meta_key=META.key, instance_id=instance_id)
            here.server.driver.idle(mine, pb.Result(status_code=200))
            port = here.server.port
            assert await asyncio.to_thread(health_of, f"127.0.0.1:{port}") == (
                0,
                f"127.0.0.1:{port}: SERVING\n",
            )

    asyncio.run(run())
