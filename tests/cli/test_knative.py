"""`scaler knative`: mistakes on its command line and in its kubeconfig are one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import InHere


def refused(in_here: InHere, *words: object) -> str:
    code, out, err = in_here("knative", "--prometheus", "http://127.0.0.1:1", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--prometheus", "prometheus:9090"), "--prometheus prometheus:9090: must be http://HOST"),
        (("--query", ""), "query: it is empty"),
        (("--most", 10_000_000), "--most"),
        (("--cool-down", 1e9), "--cool-down"),
        (("--memory-mb", "inf"), "--memory-mb"),
        (("--start", "1e9"), "--start"),
        (("--kubeconfig", "none"), "none: no configuration of one"),
    ],
)
def test_mistakes(wrong: tuple[object, ...], said: str, in_here: InHere) -> None:
    assert said in refused(in_here, *wrong)


def config(cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> dict[str, Any]:
    server = {"server": "https://127.0.0.1:1"}
    return {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": server | cluster}],
        "users": [{"name": "me", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    } | more


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a: [", "no configuration of one: while parsing"),
        ("", "no configuration of one: "),
        ({"kind": "Config"}, "no configuration of one: there is no 'clusters'"),
        (config({}, {}, clusters=1), "no configuration of one: "),
        (config({}, {}, **{"current-context": "there"}), "Context 'there' not found"),
        (config({"server": 1}, {}), "no configuration of one: "),
        (config({"server": "https://[::1"}, {}), "here: this cluster cannot be called: "),
        (config({"certificate-authority": "/none"}, {}), "here: this cluster cannot be called: "),
        (config({"certificate-authority-data": "YQ=="}, {}), "here: this cluster cannot be called"),
        (config({}, {"auth-provider": {"name": "gcp"}}), "auth-provider not supported"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(
    written: object, said: str, in_here: InHere, tmp_path: Path
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(written if isinstance(written, str) else yaml.safe_dump(written))
    assert said in refused(in_here, "--kubeconfig", file)
