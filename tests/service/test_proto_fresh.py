"""The generated code in service/proto is what `make proto` makes of the .proto file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = (
    *("scaler_pb2.py", "scaler_pb2.pyi", "scaler_pb2_grpc.py"),
    *("explain_pb2.py", "explain_pb2.pyi"),
    *("externalscaler_pb2.py", "externalscaler_pb2.pyi"),
)
PROTOS = ("scaler", "explain", "externalscaler")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proto")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I."]
    command += [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    protos = [f"warmscaler/service/proto/{name}.proto" for name in PROTOS]
    subprocess.run([*command, *protos], cwd=ROOT, check=True)
    return folder / "warmscaler/service/proto"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_code_is_up_to_date(fresh: Path, name: str) -> None:
    committed = (ROOT / "warmscaler/service/proto" / name).read_text(encoding="utf-8")
    assert committed == (fresh / name).read_text(encoding="utf-8"), "run `make proto`"


def test_generated_imports_name_the_package() -> None:
    text = (ROOT / "warmscaler/service/proto/scaler_pb2_grpc.py").read_text(encoding="utf-8")
    assert "from warmscaler.service.proto import scaler_pb2" in text
