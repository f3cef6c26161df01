"""The folders of data sets and runs: from the environment, else .lab.yaml, else the user's folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_core._packages import require
from lab_core.errors import SettingsError

__all__ = ["get_data_path", "get_experiments_path"]

_SETTINGS_FILE = ".lab.yaml"


@dataclass(frozen=True, slots=True)
class _Settings:
    """A ``.lab.yaml``; paths in it are relative to its folder."""

    data_path: Path | None = None
    experiments_path: Path | None = None
    check_repo_dirty: bool = False


def get_data_path() -> Path:
    """Return the folder of data sets: ``LAB_DATA_PATH``, else ``data_path`` of ``.lab.yaml``."""
    from_environment = os.environ.get("LAB_DATA_PATH")
    if from_environment:
        return Path(from_environment).expanduser()
    return _find_settings().data_path or _user_folder() / "data"


def get_experiments_path() -> Path:
    """Return the folder of runs: ``$LAB_HOME/runs``, else ``experiments_path`` of ``.lab.yaml``."""
    from_environment = os.environ.get("LAB_HOME")
    if from_environment:
        return Path(from_environment).expanduser() / "runs"
    return _find_settings().experiments_path or _user_folder() / "runs"


def check_repo_dirty() -> bool:
    """Return whether ``.lab.yaml`` asks for a warning when the git tree has changes."""
    return _find_settings().check_repo_dirty


def _find_settings() -> _Settings:
    folder = Path.cwd()
    for candidate in (folder, *folder.parents):
        path = candidate / _SETTINGS_FILE
        if path.is_file():
            return _read_settings(path)
    return _Settings()


def _read_settings(path: Path) -> _Settings:
    yaml = require("yaml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path} must hold keys and values, got {type(data).__name__}")
    known = list(_Settings.__dataclass_fields__)
    unknown = [str(key) for key in data if key not in known]
    if unknown:
        raise SettingsError(
            f"unknown setting '{unknown[0]}' in {path}; the settings are {', '.join(known)}"
        )
    is_dirty_checked = data.get("check_repo_dirty", False)
    if not isinstance(is_dirty_checked, bool):
        raise SettingsError(f"check_repo_dirty in {path} must be true or false")
    return _Settings(
        data_path=_path(path, data, "data_path"),
        experiments_path=_path(path, data, "experiments_path"),
        check_repo_dirty=is_dirty_checked,
    )


def _path(settings_path: Path, data: dict[str, Any], key: str) -> Path | None:
    value = data.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise SettingsError(f"{key} in {settings_path} must be a path, got {value!r}")
    return settings_path.parent / Path(value).expanduser()


def _user_folder() -> Path:
    return Path(require("platformdirs").user_data_dir("lab", appauthor=False))
