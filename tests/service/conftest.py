"""The service's tests run on both transports, each the other's oracle.

Those of the front always; those behind it on ours, unless `--both-transports` asks.
"""

from __future__ import annotations

import pytest

from warmscaler.service.front.server import ScalerServer
from warmscaler.service.front.transport import TransportKind

_OF_THE_FRONT = ("address", "health", "keepalive", "limits", "server", "tls", "tracing", "wire")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames:
        subject = str(metafunc.module.__name__).rpartition("test_")[2]
        both = subject in _OF_THE_FRONT or metafunc.config.getoption("--both-transports")
        kinds = list(TransportKind) if both else [TransportKind.OWN]
        metafunc.parametrize("transport", kinds, indirect=True, ids=str)


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TransportKind:
    """What carries the calls of every scaler that the test starts, here or as a process.

    Asked for by modules as a whole: `pytestmark = pytest.mark.usefixtures("transport")`.
    """
    kind = TransportKind(request.param)
    defaults = ScalerServer.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "transport", kind)
    monkeypatch.setenv("SCALER_TRANSPORT", kind)
    return kind
