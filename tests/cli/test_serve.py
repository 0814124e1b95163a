"""`scaler serve`: options that make no sense together are refused before anything listens."""

from __future__ import annotations

from tests.cli.conftest import InHere


def test_a_ledger_that_is_not_there_cannot_survive_power_loss(in_here: InHere) -> None:
    code, out, err = in_here("serve", "--port", 0, "--policy", "fixed:300", "--ledger-sync")
    assert (code, out) == (2, "")
    assert err.startswith("scaler: --ledger-sync goes with --ledger")


def test_a_model_goes_with_the_learned_policy(in_here: InHere) -> None:
    for option in ("--model", "--store"):
        code, out, err = in_here("serve", "--port", 0, "--policy", "fixed:300", option, "folder")
        assert (code, out) == (2, "")
        assert err == f"scaler: {option} is for the learned policy, not for fixed:300\n"
