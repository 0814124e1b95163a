"""TLS and mutual TLS, both ways: the wrong and the missing are refused, the rotated taken up."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme

from tests.service.running import assign, done, get, scaler, until
from tests.service.wire_bytes import HELLO
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front import server as server_module
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.front.tls import PlatformTls, ServerTls, TlsError
from warmscaler.service.front.transport import TransportKind
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.platform import SimulatedPlatform

pytestmark = pytest.mark.usefixtures("transport")

HOST = "127.0.0.1"


def write(folder: Path, leaf: trustme.LeafCert) -> tuple[Path, Path]:
    """The certificate and its key as files, each replaced as a whole."""
    folder.mkdir(exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    for path, content in (
        (cert, b"".join(each.bytes() for each in leaf.cert_chain_pems)),
        (key, leaf.private_key_pem.bytes()),
    ):
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.rename(path)
    return cert, key


def write_ca(path: Path, ca: trustme.CA) -> Path:
    path.write_bytes(ca.cert_pem.bytes())
    return path


def credentials(ca: trustme.CA, own: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    if own is None:
        return grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    chain = b"".join(each.bytes() for each in own.cert_chain_pems)
    return grpc.ssl_channel_credentials(ca.cert_pem.bytes(), own.private_key_pem.bytes(), chain)


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


async def call(port: int, how: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """What an Idle on a connection of its own gets."""
    where = f"{HOST}:{port}"
    # Without a pool of its own a channel may share the connection of an equal one.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.insecure_channel(where, options)
        if how is None
        else grpc.aio.secure_channel(where, how, options)
    )
    async with channel:
        stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
        stranger = pb.Assignment(request_id="r", meta_key="stranger", instance_id="i")
        return await code_of(stub.Idle(done(stranger), timeout=10.0))


OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


def test_our_certificate_is_shown_and_a_rotated_one_taken_up(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    cert, key = write(tmp_path / "own", old.issue_cert(HOST))

    async def run() -> None:
        server = ScalerServer(Fixed(1.0), f"{HOST}:1", f"{HOST}:0", tls=ServerTls(cert, key))
        await server.start()
        assert await call(server.port, credentials(old)) is OK
        assert await call(server.port, credentials(new)) is REFUSED
        assert await call(server.port, None) is REFUSED
        # A rotation half done: a certificate whose key is another's changes nothing.
        own_key = key.read_bytes()
        write(tmp_path / "own", new.issue_cert(HOST))
        new_key = key.read_bytes()
        key.write_bytes(own_key)
        assert await call(server.port, credentials(old)) is OK
        key.write_bytes(new_key)
        assert await call(server.port, credentials(new)) is OK
        assert await call(server.port, credentials(old)) is REFUSED
        cert.unlink()
        assert await call(server.port, credentials(new)) is OK
        await server.stop(1.0)

    asyncio.run(run())


def test_callers_must_show_a_certificate_of_the_right_authority(tmp_path: Path) -> None:
    ours, theirs, others = trustme.CA(), trustme.CA(), trustme.CA()
    cert, key = write(tmp_path / "own", ours.issue_cert(HOST))
    authority = write_ca(tmp_path / "client-ca.pem", theirs)
    client, stranger = theirs.issue_cert("client"), others.issue_cert("client")

    async def run() -> None:
        tls = ServerTls(cert, key, authority)
        server = ScalerServer(Fixed(1.0), f"{HOST}:1", f"{HOST}:0", tls=tls)
        await server.start()
        assert await call(server.port, credentials(ours, client)) is OK
        assert await call(server.port, credentials(ours, stranger)) is REFUSED
        assert await call(server.port, credentials(ours)) is REFUSED
        assert await call(server.port, None) is REFUSED
        write_ca(authority, others)
        assert await call(server.port, credentials(ours, stranger)) is OK
        assert await call(server.port, credentials(ours, client)) is REFUSED
        await server.stop(1.0)

    asyncio.run(run())


def test_a_handshake_that_fails_is_told_in_the_log(
    tmp_path: Path, transport: TransportKind, caplog: pytest.LogCaptureFixture
) -> None:
    if transport is not TransportKind.OWN:
        pytest.skip("gRPC says it in words of its own")
    ours, theirs = trustme.CA(), trustme.CA()
    cert, key = write(tmp_path / "own", ours.issue_cert(HOST))
    authority = write_ca(tmp_path / "client-ca.pem", theirs)

    async def said(port: int, content: bytes) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(content)
        if content:
            await reader.read()
        writer.close()

    async def run() -> None:
        tls = ServerTls(cert, key, authority)
        server = ScalerServer(Fixed(1.0), f"{HOST}:1", f"{HOST}:0", tls=tls)
        await server.start()
        await said(server.port, b"")  # a probe of the port
        await asyncio.sleep(0.1)
        assert not caplog.messages
        await said(server.port, HELLO)
        await until(lambda: "no TLS with it: [SSL: " in caplog.text)
        caplog.clear()
        assert await call(server.port, credentials(ours)) is REFUSED
        await until(lambda: "PEER_DID_NOT_RETURN_A_CERTIFICATE" in caplog.text)
        await server.stop(1.0)

    with caplog.at_level(logging.WARNING, "scaler.front"):
        asyncio.run(run())


async def platform_with(
    platform: SimulatedPlatform, leaf: trustme.LeafCert, clients: trustme.CA, port: int = 0
) -> tuple[grpc.aio.Server, int]:
    """The simulated platform behind mutual TLS."""
    chain = b"".join(each.bytes() for each in leaf.cert_chain_pems)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    scaler_pb2_grpc.add_PlatformServicer_to_server(platform, server)  # type: ignore[no-untyped-call]
    port = server.add_secure_port(
        f"{HOST}:{port}",
        grpc.ssl_server_credentials(
            [(leaf.private_key_pem.bytes(), chain)],
            root_certificates=clients.cert_pem.bytes(),
            require_client_auth=True,
        ),
    )
    await server.start()
    return server, port


@pytest.mark.parametrize("wrong", ["", "nothing shown", "shown of another", "not the platform"])
def test_the_platform_both_ways(tmp_path: Path, wrong: str) -> None:
    theirs, ours, others = trustme.CA(), trustme.CA(), trustme.CA()
    ca = write_ca(tmp_path / "ca.pem", others if wrong == "not the platform" else theirs)
    signer = others if wrong == "shown of another" else ours
    own = write(tmp_path / "own", signer.issue_cert("scaler"))
    tls = PlatformTls(ca) if wrong == "nothing shown" else PlatformTls(ca, *own)

    async def run() -> None:
        platform = SimulatedPlatform({"app": 1.0}, create_ms=1.0)
        behind, port = await platform_with(platform, theirs.issue_cert(HOST), ours)
        server = ScalerServer(Fixed(9.0), f"{HOST}:{port}", f"{HOST}:0", platform_tls=tls)
        await server.start()
        async with grpc.aio.insecure_channel(f"{HOST}:{server.port}") as channel:
            stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
            assigned = stub.Assign(assign(), timeout=30.0)
            if wrong:
                code = await code_of(assigned)
                refused = code is not OK or (await assigned).status != pb.Ok
                assert refused
                assert not platform.slots
            else:
                await stub.Idle(done((await assigned).assigment))
        await server.stop(1.0)
        await behind.stop(None)
        assert platform.live_slots == 0

    asyncio.run(run())


def test_what_we_show_to_the_platform_is_taken_up_when_it_rotates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "TLS_POLL_S", 0.05)
    theirs, old, new = trustme.CA(), trustme.CA(), trustme.CA()
    ca = write_ca(tmp_path / "ca.pem", theirs)
    tls = PlatformTls(ca, *write(tmp_path / "own", old.issue_cert("scaler")))

    async def run() -> None:
        platform = SimulatedPlatform({"app": 1.0}, create_ms=1.0)
        behind, port = await platform_with(platform, theirs.issue_cert(HOST), new)
        server = ScalerServer(Fixed(9.0), f"{HOST}:{port}", f"{HOST}:0", platform_tls=tls)
        await server.start()
        write(tmp_path / "own", new.issue_cert("scaler"))
        async with grpc.aio.insecure_channel(f"{HOST}:{server.port}") as channel:
            stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
            taken: list[pb.AssignReply] = []
            while not taken:
                try:
                    taken.append(await stub.Assign(assign(), timeout=30.0))
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
            await stub.Idle(done(taken[0].assigment))
        await server.stop(1.0)
        await until(lambda: platform.live_slots == 0)
        await behind.stop(None)

    asyncio.run(run())


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    ca = trustme.CA()
    cert, key = write(tmp_path / "one", ca.issue_cert(HOST))
    _, other_key = write(tmp_path / "two", ca.issue_cert(HOST))
    text = tmp_path / "text.pem"
    text.write_text("hello\n")
    for tls in (
        ServerTls(tmp_path / "nowhere.pem", key),
        ServerTls(text, key),
        ServerTls(cert, other_key),
        ServerTls(cert, key, text),
        ServerTls(cert, key, tmp_path),
        PlatformTls(text),
        PlatformTls(cert, cert, other_key),
    ):
        with pytest.raises(TlsError, match=str(tmp_path)) as refused:
            tls.credentials()
        assert "\n" not in str(refused.value)


def test_a_process_with_tls_and_its_health_check(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    cert, key = write(tmp_path / "own", ours.issue_cert(HOST))
    shown, shown_key = write(tmp_path / "caller", theirs.issue_cert("probe"))
    serving = ("--tls-cert", cert, "--tls-key", key)
    with_callers = ("--tls-client-ca", write_ca(tmp_path / "callers.pem", theirs))
    with scaler("--policy", "fixed:300", *serving, *with_callers) as process:
        ca = ("--ca", write_ca(tmp_path / "ca.pem", ours))
        for more, code in ((), 1), (ca, 1), ((*ca, "--cert", shown, "--key", shown_key), 0):
            command = (
                sys.executable,
                "-m",
                "warmscaler",
                "health",
                process.address,
                *map(str, more),
            )
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
            assert asked.returncode == code, asked
        assert process.terminate() == 0


def test_probes_and_health_check_work_with_tls(tmp_path: Path) -> None:
    """The certificate is for the name that callers use; the check beside the scaler uses none."""
    ca = trustme.CA()
    cert, key = write(tmp_path / "ours", ca.issue_cert("scaler.example"))
    trusted = write_ca(tmp_path / "ca.pem", ca)
    own_cert, own_key = write(tmp_path / "check", ca.issue_cert("check.example"))
    options = ("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", trusted)
    with scaler("--policy", "fixed:300", "--metrics-port", 0, *options) as process:
        address = process.address
        assert get(f"{process.page}/healthz")[0] == 200
        said = {"CA": trusted, "NAME": "scaler.example", "CERT": own_cert, "KEY": own_key}
        command = [sys.executable, "-m", "warmscaler", "health", "--timeout", "20"]
        by_environment = {f"SCALER_HEALTH_{name}": str(path) for name, path in said.items()}
        by_option = [word for name, each in said.items() for word in (f"--{name.lower()}", each)]
        for words, environment in (
            ([], by_environment | {"SCALER_HEALTH_ADDRESS": address}),
            ([*map(str, by_option), address], {}),
        ):
            asked = subprocess.run(
                [*command, *words],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (asked.returncode, asked.stdout) == (0, f"{address}: SERVING\n"), asked.stderr
