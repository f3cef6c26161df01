from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab_core import lab
from lab_core.errors import SettingsError


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


def test_without_platformdirs_it_says_what_to_install_or_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(SettingsError, match=r"pip install 'lab-train\[server\]', or set LAB_HOME"):
        lab.get_experiments_path()


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
