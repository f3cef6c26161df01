"""A server's home, which is private: a folder that is used for something else is left as it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from lab_core.errors import SettingsError

_MARKS: Final = frozenset({"lab.db", "server_id"})
# what is there before the first start: made by other commands, or by the file system
_BEFOREHAND: Final = frozenset({"certs", "tokens.json", "lost+found"})


def make_home(home: Path, *, has_database: bool) -> None:
    """Make a server's home and its database, or take the ones there are; nobody else may read them.

    Raises:
        SettingsError: If it cannot be made or written, or has other things in it that other users may reach:
            /tmp, say, which nobody could use any more.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"cannot make the folder home={home}: {error.strerror}") from None
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"cannot write to the folder home={home}")
    try:
        if _is_open(home) and _is_anothers(home):
            raise SettingsError(
                f"home={home} has other files in it, and other users can open it, which they could not any more: "
                f"choose a new folder, or, if it is the server's alone, say so by chmod 700 {home}"
            )
        home.chmod(0o700)
        if has_database:
            # SQLite gives the files beside it the same mode
            os.close(os.open(home / "lab.db", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for path in home.glob("lab.db*"):
            path.chmod(0o600)
    except OSError as error:
        raise SettingsError(f"cannot make home={home} private: {error.strerror}") from None


def _is_open(home: Path) -> bool:
    return bool(stat.S_IMODE(home.stat().st_mode) & 0o077)


def _is_anothers(home: Path) -> bool:
    names = set(os.listdir(home))
    return not names & _MARKS and bool(names - _BEFOREHAND)
