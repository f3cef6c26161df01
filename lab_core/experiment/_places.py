"""Where runs are found, and what started this one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lab_core import lab
from lab_core.errors import RunNotFound, SettingsError

# of experiments and runs: a folder each, and nothing that leads elsewhere
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")


def main_script() -> Path | None:
    """Return the script that this process runs, None if there is none."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return Path(path).resolve() if path else None


def name_of_script(script: Path | None) -> str:
    """Return an experiment's name unless it is given: the script's, or that of the package that `python -m` runs.

    Raises:
        SettingsError: If it can be none.
    """
    if script is None:
        return "interactive"
    name = script.parent.name if script.name == "__main__.py" else script.stem
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"the script's name {name!r} cannot be the experiment's, which is letters, digits, '_', '.' and '-', "
            "a letter or digit first: give it one, experiment.create(name=...)"
        )
    return name


def check_name(name: object, what: str) -> None:
    """Check the name of an experiment or the id of a run.

    Raises:
        SettingsError: If it can be none.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SettingsError(
            f"{what} is letters, digits, '_', '.' and '-', a letter or digit first, got {name!r}"
        )


def find_run(run_id: str) -> Path:
    """Return the folder of a run.

    Raises:
        RunNotFound: If there is none.
    """
    root = lab.get_experiments_path()
    if isinstance(run_id, str) and NAME.fullmatch(run_id):
        for folder in root.glob(f"*/{run_id}"):
            if folder.is_dir():
                return folder
    raise RunNotFound(f"there is no run {run_id!r} in {root}")


def make_folder(folder: Path) -> None:
    """Make the folder of a run.

    Raises:
        SettingsError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the run's folder {folder} cannot be made: {error.strerror}; runs are in $LAB_HOME/runs, else in "
            "the experiments_path of .lab.yaml"
        ) from error
