"""Look back on runs: their hyper-parameters and metrics as columns, and side by side in a plot.

Reads the folders of runs and nothing else: it works while they train, on another machine's copies, and
for runs of a server as well. Needs pandas and matplotlib only when asked for a frame or a plot.

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
