"""The service's tests run on both transports, each the other's oracle."""

from __future__ import annotations

import pytest

from warmscaler.service.front.server import ScalerServer
from warmscaler.service.front.transport import TransportKind


@pytest.fixture(params=list(TransportKind), ids=str)
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
