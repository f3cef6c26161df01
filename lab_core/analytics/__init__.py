"""Analyse runs: hyper-parameters and metrics as columns, and comparison plots.

Reads only the run folders: it works during training, on copies of the folders, and for a server's
runs. Needs pandas and matplotlib only for data frames and plots.

Example:
    >>> from lab_core import analytics
    >>> for run in analytics.runs():  # doctest: +SKIP
    ...     print(run.id, run.hyperparams, run.last("accuracy"))
"""

from __future__ import annotations

from lab_core.analytics._find import load, runs
from lab_core.analytics._run import Run
from lab_core.analytics._runs import Runs
from lab_core.analytics._series import Series

__all__ = ["Run", "Runs", "Series", "load", "runs"]
