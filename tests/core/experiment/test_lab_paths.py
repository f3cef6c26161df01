from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_core import lab
from lab_core._packages import require
from lab_core.errors import MissingPackage, SettingsError
from lab_core.experiment._record import write_yaml


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LAB_HOME", raising=False)
    monkeypatch.delenv("LAB_DATA_PATH", raising=False)
    below = tmp_path / "project" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return tmp_path / "project"


def test_the_environment_comes_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / ".lab.yaml").write_text("data_path: data\nexperiments_path: logs\n")
    monkeypatch.setenv("LAB_HOME", "/home/of/runs")
    monkeypatch.setenv("LAB_DATA_PATH", "/data")
    assert lab.get_experiments_path() == Path("/home/of/runs/runs")
    assert lab.get_data_path() == Path("/data")


def test_the_nearest_settings_file_upwards_comes_next(here: Path) -> None:
    (here.parent / ".lab.yaml").write_text("data_path: farther\n")
    (here / ".lab.yaml").write_text("data_path: nearer\nexperiments_path: logs\n")
    assert lab.get_data_path() == here / "nearer"
    assert lab.get_experiments_path() == here / "logs"


def test_without_either_it_is_the_users_folder() -> None:
    assert lab.get_data_path().name == "data"
    assert lab.get_experiments_path().name == "runs"
    assert lab.get_data_path().is_absolute()


def test_a_package_that_the_thin_client_lacks_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("platformdirs", "yaml", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "lab_core.helpers.pytorch", raising=False)
    calls: dict[str, Callable[[], object]] = {
        "platformdirs": lab.get_experiments_path,
        "pyyaml": lambda: write_yaml(tmp_path / "a.yaml", {}),
        "torch": lambda: importlib.import_module("lab_core.helpers.pytorch"),
    }
    for package, call in calls.items():
        with pytest.raises(MissingPackage) as caught:
            call()
        assert isinstance(caught.value, ImportError)
        assert str(caught.value) == f"lab_core needs {package}: pip install 'lab-train[core]'"
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.package) == (str(caught.value), package)


def test_a_package_that_itself_lacks_another_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "halfway.py").write_text("import nothing_like_this\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_like_this"):
        require("halfway")


def test_an_empty_settings_file_is_fine(here: Path) -> None:
    (here / ".lab.yaml").write_text("")
    assert lab.get_data_path().name == "data"
    assert lab.check_repo_dirty() is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_pth: x", "unknown setting 'data_pth'.*data_path"),
        ("data_path: 3", "data_path .* must be a path"),
        ("- a", "must hold keys and values"),
        ("a: [", "not YAML"),
        ("check_repo_dirty: maybe", "true or false"),
    ],
)
def test_a_wrong_settings_file_is_an_error(here: Path, text: str, message: str) -> None:
    (here / ".lab.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        lab.get_data_path()
