"""Find run folders: `<experiments path>/<experiment>/<run id>/`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lab_core import lab
from lab_core.analytics._run import Run
from lab_core.analytics._runs import Runs
from lab_core.errors import LabError, RunNotFound

_RECORD = "run.yaml"


def runs(experiment: str | None = None, *, path: str | os.PathLike[str] | None = None) -> Runs:
    """Return all runs, ordered by start time.

    Runs whose record or configs are damaged are left out; `load` raises an error with the reason.

    Args:
        experiment: only runs of this experiment.
        path: the folder of runs; by default `lab.get_experiments_path()`.
    """
    found = []
    for folder in _folders(_root(path)):
        if experiment is not None and folder.parent.name != experiment:
            continue
        try:
            found.append(Run.read(folder))
        except LabError:
            continue
    return Runs(sorted(found, key=lambda run: (run.record.start, run.id)))


def load(run_id: str, *, path: str | os.PathLike[str] | None = None) -> Run:
    """Return one run, by its id or by a unique prefix of it.

    Raises:
        RunNotFound: If no run matches, or several do.
        LabError: If its files are damaged.
    """
    root = _root(path)
    ids = {folder.name: folder for folder in _folders(root)}
    if run_id in ids:
        return Run.read(ids[run_id])
    matches = sorted(name for name in ids if run_id and name.startswith(run_id))
    if len(matches) == 1:
        return Run.read(ids[matches[0]])
    if matches:
        raise RunNotFound(f"several runs begin with {run_id!r}: {', '.join(matches[:5])}")
    raise RunNotFound(f"there is no run {run_id!r} in {root}")


def _root(path: str | os.PathLike[str] | None) -> Path:
    return lab.get_experiments_path() if path is None else Path(path)


def _folders(root: Path) -> Iterator[Path]:
    for record in sorted(root.glob(f"*/*/{_RECORD}")):
        yield record.parent
