"""The generated modules are in step with the .proto files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generated(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for glob in GENERATED for path in folder.glob(glob)}


def test_make_protos_changes_nothing(tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "protoc-gen-mypy").exists():
        pytest.skip("the [dev] extra is not installed beside this Python")
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    for path in (tmp_path / "protos/lab_rpc/v1").glob("*_pb2*"):
        path.unlink()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    subprocess.run(
        # The stamp is claimed, so that make generates and does not install.
        [
            "make",
            "protos",
            f"VENV={bin_folder.parent}",
            f"BIN={bin_folder}",
            "-o",
            f"{bin_folder.parent}/.dev",
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=120,
    )

    assert generated(tmp_path / "protos/lab_rpc/v1") == generated(ROOT / "protos/lab_rpc/v1")
