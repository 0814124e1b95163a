"""`scaler serve`: options that make no sense together are refused before anything listens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import InHere
from tests.service.test_server import refused


def test_a_ledger_that_is_not_there_cannot_survive_power_loss(in_here: InHere) -> None:
    code, out, err = in_here("serve", "--port", 0, "--policy", "fixed:300", "--ledger-sync")
    assert (code, out) == (2, "")
    assert err.startswith("scaler: --ledger-sync goes with --ledger")


def test_what_changes_nothing_is_refused(in_here: InHere) -> None:
    for option, value, without in (
        ("--metrics-apps", 5, "--metrics-port"),
        ("--metrics-host", "::1", "--metrics-port"),
        ("--record-days", 3, "--record"),
        ("--record-gb", 3, "--record"),
    ):
        code, out, err = in_here("serve", "--port", 0, "--policy", "fixed:300", option, value)
        assert (code, out) == (2, "")
        assert err.startswith("scaler: ")
        assert f"go with {without} " in err
        assert err.count("\n") == 1


def test_a_model_goes_with_the_learned_policy(in_here: InHere) -> None:
    for option in ("--model", "--store"):
        code, out, err = in_here("serve", "--port", 0, "--policy", "fixed:300", option, "folder")
        assert (code, out) == (2, "")
        assert err == f"scaler: {option} is for the learned policy, not for fixed:300\n"


def test_every_option_refuses_in_one_line_what_it_cannot_mean(
    in_here: InHere, tmp_path: Path
) -> None:
    serve = ("serve", "--port", 0, "--policy", "fixed:300")
    for words, option in (
        ((*serve, "--platform", "::1:50051"), "--platform ::1:50051"),
        ((*serve, "--until-closed", "::1:9000"), "--until-closed ::1:9000"),
        ((*serve, "--host", "[::1]:9001"), "--host [::1]:9001"),
        ((*serve, "--metrics-port", 0, "--metrics-host", "a:1"), "--metrics-host a:1"),
        ((*serve, "--otlp", "::1:4317"), "--otlp ::1:4317"),
        (("health", "::1:9001"), "ADDRESS ::1:9001"),
        (("simulate", tmp_path, "--scaler", "::1:9001"), "--scaler ::1:9001"),
    ):
        code, out, err = in_here(*words)
        assert (code, out) == (2, "")
        assert err.startswith(f"scaler: {option}: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--policy", "fixed:-1"), "above 0"),
        (("--policy", "none-such"), "known are"),
        (("--strict-model",), "no model is named"),
        (("--strict-model", "--model", "nowhere"), "nowhere: there is no such model folder"),
        (("--price", "-1"), "price"),
        (("--tls-cert", "a.pem"), "go together"),
        (("--tls-client-ca", "a.pem"), "goes with"),
        (("--tls-cert", "a.pem", "--tls-key", "b.pem"), "a.pem"),
        (("--platform-ca", "a.pem"), "a.pem"),
        (("--platform-cert", "a.pem"), "go together"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(
    in_here: InHere, arguments: tuple[str, ...], says: str
) -> None:
    code, out, err = in_here("serve", "--port", 0, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("scaler: ")
    assert says in err
    assert err.count("\n") == 1


def test_a_port_for_metrics_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        line = refused("--policy", "fixed:300", "--port", 0, "--metrics-port", port)
        assert f"127.0.0.1:{port}" in line
        assert "in use" in line
