"""Where runs are found, and what started this one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lab_core import lab
from lab_core.errors import RunNotFound

# of experiments and runs: a folder each, and nothing that leads elsewhere
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")


def main_script() -> Path | None:
    """Return the script that this process runs, None if there is none."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return Path(path).resolve() if path else None


def find_run(run_id: str) -> Path:
    """Return the folder of a run.

    Raises:
        RunNotFound: If there is none.
    """
    root = lab.get_experiments_path()
    if NAME.fullmatch(run_id):
        for folder in root.glob(f"*/{run_id}"):
            if folder.is_dir():
                return folder
    raise RunNotFound(f"there is no run {run_id!r} in {root}")
