"""What pyproject.toml and constraints.txt say fits what the code imports, and each other."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lab_client
import lab_server

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
OURS = {"lab_client", "lab_core", "lab_rpc", "lab_server"}
# Imported where it is there, and done without where it is not.
OPTIONAL = {"ipython"}


def requirements_of(*extras: str) -> Iterator[Requirement]:
    """Yield what an installation with these extras asks for, extras of extras included."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, texts):
        if requirement.name == PROJECT["name"]:
            yield from requirements_of(*requirement.extras)
        else:
            yield requirement


def names_of(*extras: str) -> set[str]:
    return {str(canonicalize_name(it.name)) for it in requirements_of(*extras)}


def imported_by(folder: Path) -> set[str]:
    """Return the distributions that the modules below a folder import, but for ours."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    top = {name.partition(".")[0] for name in found} - OURS - sys.stdlib_module_names
    distributions = importlib.metadata.packages_distributions()
    # Several distributions share the package google; protobuf is the one that everybody has.
    return {
        str(canonicalize_name("protobuf" if name == "google" else distributions[name][0]))
        for name in top
        if name in distributions
    } - OPTIONAL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("lab_core", ["core", "plot"]),
        ("client/lab_client", ["cli", "plot"]),
        ("server/lab_server", ["server", "postgresql"]),
    ],
)
def test_a_package_imports_only_what_its_extras_install(folder: str, extras: list[str]) -> None:
    imported = imported_by(ROOT / folder)
    assert imported, "the test itself sees no imports"
    assert imported <= names_of(*extras)


def test_lab_core_installs_neither_a_web_server_nor_a_database_toolkit() -> None:
    assert not {"aiohttp", "sqlalchemy", "structlog", "pydantic"} & names_of("core")


def test_the_server_installs_nothing_that_only_tests_import() -> None:
    assert not {"psutil", "pytest"} & names_of("server")


def test_the_version_stands_in_one_place() -> None:
    installed = importlib.metadata.version("lab-train")
    assert lab_server.__version__ == lab_client.__version__ == installed == PROJECT["version"]
    stated = re.compile(rf"^\s*\w*version\w*\s*=.*{re.escape(PROJECT['version'])}", re.MULTILINE)
    folders = ("lab_core", "client", "server")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in paths if stated.search(path.read_text())] == []


# --- constraints.txt ---------------------------------------------------------------------------------


def constraints(python: str) -> dict[str, Requirement]:
    """Return the constraints that hold on Linux with a version of Python, by name."""
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, Requirement] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(here):
                assert requirement.name not in found, f"{requirement.name} is constrained twice"
                found[canonicalize_name(requirement.name)] = requirement
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_constrained_within_its_bounds(python: str) -> None:
    constrained = constraints(python)
    for requirement in requirements_of(*PROJECT["optional-dependencies"]):
        name = canonicalize_name(requirement.name)
        assert name in constrained, f"{name} is not in constraints.txt: make constraints"
        (only,) = constrained[name].specifier
        assert requirement.specifier.contains(only.version), f"{requirement}: make constraints"


@pytest.mark.parametrize("python", PYTHONS)
def test_which_build_of_torch_is_installed_is_left_to_the_platform(python: str) -> None:
    constrained = constraints(python)
    (torch,) = constrained["torch"].specifier
    assert torch.operator == "<="
    assert torch.contains(f"{torch.version}+cpu")
    assert torch.contains(f"{torch.version}+cu126")
    assert [name for name in constrained if name.startswith(("nvidia-c", "cuda-", "triton"))] == []


@pytest.mark.parametrize("target", ["demo", "test", "test-fast", "types", "lint", "cov"])
def test_make_installs_by_the_constraints(target: str, tmp_path: Path) -> None:
    command = ["make", "--dry-run", target, f"VENV={tmp_path}"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "pip install" in shown
    assert all("-c constraints.txt" in line for line in shown.splitlines() if "pip install" in line)


def test_make_help_shows_all_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (declared,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    command = ["make", "--silent", "help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(re.findall(r"^  make (\S+)", shown, re.MULTILINE)) == sorted(declared.split())
