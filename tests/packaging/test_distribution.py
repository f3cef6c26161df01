"""What pip gives a user: the built wheel and sdist, installed in a fresh environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = {"lab_client", "lab_core", "lab_rpc", "lab_server"}


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=280
    )
    if check and result.returncode != 0:
        pytest.fail(f"{command} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def thin(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel, without extras."""
    folder = tmp_path_factory.mktemp("thin")
    venv.create(folder, with_pip=True)
    (wheel,) = dist.glob("*.whl")
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", wheel)
    return folder / "bin"


def test_the_wheel_holds_the_four_packages_and_their_data(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()

    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert any(name.endswith("mnist_5k.npz") for name in names)
    assert any(name.endswith(".proto") for name in names)


def test_the_sdist_holds_the_tests_and_examples(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}

    assert {"Makefile", "Dockerfile", "protos/buf.yaml", "examples/demo.py"} <= names
    assert not any(name.startswith(".ci") for name in names)


def test_the_thin_client_has_no_torch_and_nothing_generic(thin: Path) -> None:
    listed = run(thin / "pip", "list", "--format=freeze").stdout.lower()
    assert "lab-train" in listed
    for heavy in ("torch", "numpy", "pandas", "sqlalchemy"):
        assert f"\n{heavy}==" not in f"\n{listed}"

    for generic in ("server", "client", "protos"):
        result = run(thin / "python", "-I", "-c", f"import {generic}", check=False)
        assert "ModuleNotFoundError" in result.stderr
    run(thin / "python", "-I", "-c", "import lab_client, lab_core.configs, lab_core.errors")


@pytest.mark.parametrize(("command", "extra"), [("lab-server", "server"), ("lab", "cli")])
def test_a_command_without_its_extra_says_what_to_install(
    thin: Path, command: str, extra: str
) -> None:
    result = run(thin / command, "--help", check=False)

    assert result.returncode != 0
    assert f"pip install 'lab-train[{extra}]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
