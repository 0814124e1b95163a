"""A service, a Prometheus and a stand-in for the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.keda.conftest import World, world
from tests.knative.stand_in import StandIn

__all__ = ["World", "world"]


@pytest.fixture
def api() -> Iterator[StandIn]:
    stand_in = StandIn()
    try:
        yield stand_in
    finally:
        stand_in.close()
