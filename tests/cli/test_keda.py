"""`scaler keda`: mistakes on its command line are one line each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import InHere


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--prometheus", "prometheus:9090"), "--prometheus prometheus:9090: must be http://HOST"),
        (("--history", "2 days"), "--history 2 days: must be a number with s, m, h or d"),
        (("--overrides", "none"), "--overrides none: No such file"),
        (("--apps", "apps.toml"), "apps.toml: shop: memoryMb: it is missing"),
        (("--apps", "one.toml"), "one.toml: shop: each app is a table"),
        (("--apps", "none.toml"), "none.toml: No such file"),
        (("--apps", "deep.toml"), "deep.toml: "),
        (("--apps", "twice.toml"), "twice.toml: b: app: a is another one's"),
        (("--host", "[x"), "--host [x: "),
        (("--metrics-host", "::"), "--metrics-host goes with --metrics-port"),
        (("--tls-key", "key"), "--tls-cert and --tls-key go together"),
        (("--interval", "0"), "--interval"),
    ],
)
def test_mistakes(
    wrong: tuple[str, str],
    said: str,
    tmp_path: Path,
    in_here: InHere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "apps.toml").write_text('[shop]\nquery = "up"\nstartSeconds = 1\n')
    (tmp_path / "one.toml").write_text("shop = 1\n")
    table = 'query = "up"\nstartSeconds = 1\nmemoryMb = 1\n'
    (tmp_path / "twice.toml").write_text(f'[a]\n{table}[b]\napp = "a"\n{table}')
    (tmp_path / "deep.toml").write_text(f"shop = {'[' * 5_000}\n")
    code, out, err = in_here("keda", "--port", 0, "--prometheus", "http://x", *wrong)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
