"""Options from the command line, the environment and a file: which wins, and what is refused."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.core import TyperOption

from tests.cli.conftest import InHere
from tests.service.running import scaler
from warmscaler.cli.commands import SUBCOMMANDS
from warmscaler.cli.configuration import (
    ConfiguredCommand,
    Source,
    key_of,
    options_of,
    to_toml,
    variable_of,
)
from warmscaler.cli.lazy import load
from warmscaler.service.front.announcing import age_days

CONFIGURED = [name for name, each in SUBCOMMANDS.items() if each.is_configured]
SERVE: ConfiguredCommand = load("serve", SUBCOMMANDS["serve"])
KEYS = {key_of(each): each for each in options_of(SERVE)}
SOURCES = (Source.FILE, Source.ENVIRONMENT, Source.COMMAND_LINE)


def value_for(option: TyperOption, source: Source) -> object:
    """One that `option` takes, another from each source; a flag can be on only."""
    if option.is_flag:
        return True
    if choices := option.type_descriptor.choices:
        return str(choices[SOURCES.index(source) % len(choices)].value)
    kind = str(option.type_descriptor.annotation)
    number = 11 + SOURCES.index(source)
    return number if "int" in kind else number + 0.5 if "float" in kind else f"of-{source.value}"


def as_word(value: object) -> str:
    return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)


def shown(words: list[str], environment: Mapping[str, str]) -> dict[str, tuple[object, Source]]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith("SCALER_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        fresh: ConfiguredCommand = load("serve", SUBCOMMANDS["serve"])
        return {each.key: (each.value, each.source) for each in fresh.settings(words)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "scaler.toml"


keys = st.sets(st.sampled_from(sorted(KEYS)))


@given(in_file=keys, in_environment=keys, on_line=keys)
@settings(max_examples=10, deadline=None)
def test_command_line_then_environment_then_file_then_default(
    file: Path, in_file: set[str], in_environment: set[str], on_line: set[str]
) -> None:
    said = {key: value_for(KEYS[key], Source.FILE) for key in in_file}
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]
    file.write_text("\n".join(["[serve]", *lines]))
    environment = {
        variable_of("serve", KEYS[key]): as_word(value_for(KEYS[key], Source.ENVIRONMENT))
        for key in in_environment
    }
    words = ["--config", str(file)]
    for key in on_line:
        value = value_for(KEYS[key], Source.COMMAND_LINE)
        words += [f"--{key}"] if value is True else [f"--{key}", as_word(value)]
    defaults = shown([], {})
    for key, (value, source) in shown(words, environment).items():
        want = (
            Source.COMMAND_LINE
            if key in on_line
            else Source.ENVIRONMENT
            if key in in_environment
            else Source.FILE
            if key in in_file
            else Source.DEFAULT
        )
        assert source is want, key
        if want is Source.DEFAULT:
            assert value == defaults[key][0]
        else:
            assert value == value_for(KEYS[key], want)


def test_what_is_shown_can_be_saved_and_used(file: Path) -> None:
    words = []
    for key, option in KEYS.items():
        value = value_for(option, Source.FILE)
        words += [f"--{key}"] if value is True else [f"--{key}", as_word(value)]
    file.write_text(to_toml("serve", list(SERVE.settings(words))))
    assert tomllib.loads(file.read_text())["serve"].keys() == KEYS.keys()
    again = shown(["--config", str(file)], {})
    assert {key: value for key, (value, _) in again.items()} == {
        key: value for key, (value, _) in shown(words, {}).items()
    }
    assert {source for _, source in again.values()} == {Source.FILE}


def test_of_nothing_set_the_file_is_comments_only() -> None:
    assert tomllib.loads(to_toml("serve", list(SERVE.settings([])))) == {"serve": {}}


def test_every_variable_is_of_one_option() -> None:
    of = [
        variable_of(name, option)
        for name in CONFIGURED
        for option in options_of(load(name, SUBCOMMANDS[name]))
    ]
    assert len(set(of)) == len(of)
    assert {"SCALER_HOST", "SCALER_PORT", "SCALER_LEDGER_SYNC", "SCALER_RETRAIN_WINDOW"} <= set(of)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[serve]\nprot = 1", "[serve] prot: no option is called so; did you mean port?"),
        ("[serve]\nmetrics_port = 1", "metrics_port: no option is called so; did you mean metri"),
        ("[serve]\nconfig = 'other.toml'", "[serve] config: no option is called so"),
        ("port = 1", "port: stands in no table of a command; options stand below [serve]"),
        ("[sevre]\nport = 1", "[sevre]: no command's table; did you mean [serve]?"),
        ("[trace]\nseed = 1", "[trace]: no command's table"),
        ("[serve]\nport = 70000", "[serve] port = 70000: Input should be less than or equal to"),
        ("[serve]\nport = true", "[serve] port: takes a value, not true or false"),
        ("[serve]\nport = [1, 2]", "[serve] port = [1, 2]: "),
        ("[serve]\nledger-sync = 1", "[serve] ledger-sync: must be true or false"),
        ("[serve]\nlog-level = 'loud'", "[serve] log-level = 'loud': "),
        ("[serve", "is not TOML: "),
        ("\0", "is not TOML: "),
    ],
)
def test_what_a_file_may_not_say_is_one_line(
    text: str, says: str, file: Path, in_here: InHere
) -> None:
    file.write_text(text)
    code, out, err = in_here("serve", "--config", file)
    assert (code, out) == (2, "")
    assert err.startswith("scaler: ")
    assert str(file) in err
    assert says in err
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, in_here: InHere) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "bytes"):
        code, out, err = in_here("config", "show", "--config", path)
        assert (code, out) == (2, "")
        assert err.startswith(f"scaler: --config {path}: ")
        assert err.count("\n") == 1


def test_a_variable_that_is_no_good_is_named(
    in_here: InHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALER_DRAIN", "soon")
    code, _, err = in_here("serve")
    assert code == 2
    assert err.startswith("scaler: SCALER_DRAIN: ")
    assert err.count("\n") == 1


def test_what_kubernetes_says_of_a_service_is_no_option() -> None:
    links = {"SCALER_PORT": "tcp://10.0.0.1:9001", "SCALER_SERVICE_HOST": "10.0.0.1"}
    assert shown([], links)["port"] == (9001, Source.DEFAULT)


def test_shown_for_programs(file: Path, in_here: InHere, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[evaluate]\nsplit = 0.25\npolicy = ["fixed:3", "reference"]\n')
    monkeypatch.setenv("SCALER_CONFIG", str(file))
    code, out, err = in_here("config", "show", "evaluate", "--json")
    assert (code, err) == (None, "")
    told = json.loads(out)
    assert told["command"] == "evaluate"
    policy = {"value": ["fixed:3", "reference"], "source": "file", "place": str(file)}
    assert told["settings"]["policy"] == policy
    assert told["settings"]["split"]["value"] == 0.25
    assert told["settings"]["create-ms"] == {"value": 300.0, "source": "default", "place": None}


def test_no_command_to_configure(in_here: InHere) -> None:
    code, _, err = in_here("config", "show", "trace")
    assert (code, err) == (2, "scaler: trace: no command that takes --config; see scaler --help\n")


def test_a_scaler_begins_with_what_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "scaler.toml"
    config.write_text(f'[serve]\npolicy = "fixed:60"\nledger = "{tmp_path / "slots"}"\n')
    monkeypatch.setenv("SCALER_PRISE", "3")
    monkeypatch.setenv("SCALER_PLATFORM", "127.0.0.1:50052")
    with scaler("--config", config) as process:
        address = process.address
        line = process.until("serves: ").string
        process.until("SCALER_PRISE .*did you mean SCALER_PRICE")
        assert "policy=fixed:60" in line
        assert f"address={address} platform=127.0.0.1:50052 ledger={tmp_path}/slots" in line
        assert process.terminate() == 0


@pytest.mark.parametrize(
    ("created", "days"),
    [
        ("2026-11-20T12:00:00+00:00", 7.0),
        ("2026-11-27T06:00:00", 0.2),  # without a zone it is UTC
        ("", None),
        ("yesterday", None),
    ],
)
def test_age_of_a_model(created: str, days: float | None) -> None:
    assert age_days(created, datetime(2026, 11, 27, 12, tzinfo=UTC)) == days
