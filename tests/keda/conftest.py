"""One service and one Prometheus for all tests of a worker that do not kill it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.keda.world import Exporter, Prometheus, exporter, prometheus


@dataclass
class World:
    service: Exporter
    prometheus: Prometheus


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        exporter() as service,
        prometheus(tmp_path_factory.mktemp("prometheus"), service.port) as server,
    ):
        yield World(service, server)
