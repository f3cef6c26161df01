"""A server's home is private, and no folder that is used for something else becomes one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lab_core.errors import SettingsError
from lab_server.files.own_home import make_home


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that everybody may use, as /tmp is."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o1777)
    return home


@pytest.mark.parametrize("has_database", [True, False])
def test_a_folder_with_other_things_in_it_stays_as_it_is(home: Path, has_database: bool) -> None:
    (home / "somebodys").touch()
    with pytest.raises(SettingsError, match=r"has other files in it, .*chmod 700 /"):
        make_home(home, has_database=has_database)
    assert mode_of(home) == 0o1777
    assert [path.name for path in home.iterdir()] == ["somebodys"]


@pytest.mark.parametrize(
    "there",
    [(), ("lost+found", "certs", "tokens.json"), ("lab.db", "notes"), ("server_id", "notes")],
)
def test_an_empty_folder_and_a_home_become_private(home: Path, there: tuple[str, ...]) -> None:
    for name in there:
        (home / name).touch()
    make_home(home, has_database=True)
    assert mode_of(home) == 0o700
    assert mode_of(home / "lab.db") == 0o600


def test_a_folder_that_is_private_already_may_have_other_things_in_it(home: Path) -> None:
    home.chmod(0o700)
    (home / "experiments").mkdir()
    make_home(home, has_database=True)
    assert mode_of(home) == 0o700


def test_a_new_home_is_private(tmp_path: Path) -> None:
    make_home(tmp_path / "a" / "b", has_database=False)
    assert mode_of(tmp_path / "a" / "b") == 0o700
    assert not (tmp_path / "a" / "b" / "lab.db").exists()
