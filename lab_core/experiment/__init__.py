"""An experiment as lab has it: create, calculate configs, start.

Example:
    >>> from lab_core import experiment
    >>> experiment.create(name="mnist", writers=set())  # doctest: +SKIP
    >>> conf = experiment.calculate_configs(Configs(), {"epochs": 1}, ["set_seed", "main"])
    ... # doctest: +SKIP
    >>> with experiment.start():  # doctest: +SKIP
    ...     conf.main()

The functions act on the current ``Experiment``; ``create`` puts a fresh one in place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from lab_core.checkpoints import Checkpoint
from lab_core.configs import BaseConfigs
from lab_core.errors import LabError
from lab_core.experiment._evaluation import Evaluation
from lab_core.experiment._experiment import Experiment
from lab_core.experiment._fork import ForkTrial, try_fork
from lab_core.experiment._record import RunRecord, Status, new_run_id
from lab_core.experiment._run import run
from lab_core.experiment._script import run_script
from lab_core.writers.base import Writer

__all__ = [
    "Evaluation",
    "Experiment",
    "ForkTrial",
    "RunRecord",
    "Status",
    "add_pytorch_models",
    "calculate_configs",
    "configs",
    "create",
    "current",
    "evaluate",
    "load",
    "new_run_id",
    "record",
    "run",
    "run_script",
    "save_artifact",
    "save_checkpoint",
    "save_numpy",
    "start",
    "try_fork",
]

C = TypeVar("C", bound=BaseConfigs)
RunOrder = Sequence[str | Sequence[str]]

_current: Experiment | None = None


def create(
    *,
    name: str | None = None,
    comment: str = "",
    writers: Iterable[str | Writer] | None = None,
    tags: Iterable[str] | None = None,
    **options: Any,
) -> Experiment:
    """Make a new run the current one: a fresh tracker, step 0; the last one is closed.

    Args:
        name: of the experiment; by default the script's.
        comment: whatever you want to remember about the run.
        writers: names (`sqlite`, `tensorboard`) or writers; both of those when None. The console is
            always on.
        tags: to find the run by.
        options: of ``Experiment``.
    """
    global _current
    if _current is not None:
        _current.close(_current.last_error())
    _current = Experiment(name=name, comment=comment, writers=writers, tags=tags, **options)
    return _current


def evaluate(*, name: str | None = None, console: bool = True) -> Evaluation:
    """Make an evaluation the current run: nothing is recorded; the last run is closed.

    Args:
        name: shown in the header; by default the script's.
        console: show what goes on.
    """
    global _current
    if _current is not None:
        _current.close(_current.last_error())
    _current = evaluation = Evaluation(name, console=console)
    return evaluation


def record(
    *,
    name: str | None = None,
    comment: str = "",
    writers: Iterable[str | Writer] | None = None,
    tags: Iterable[str] | None = None,
    exp_conf: BaseConfigs | Mapping[str, Any] | None = None,
    **options: Any,
) -> Experiment:
    """Create a run, calculate its configs and start it: ``with experiment.record(name="x"):``.

    Args:
        name: of the experiment; by default the script's.
        comment: whatever you want to remember about the run.
        writers: names (`sqlite`, `tensorboard`) or writers; both of those when None.
        tags: to find the run by.
        exp_conf: the configs, an instance or a plain dict.
        options: of ``Experiment``.

    Raises:
        ConfigError: With all that is wrong.
    """
    experiment = create(name=name, comment=comment, writers=writers, tags=tags, **options)
    if exp_conf is not None:
        experiment.calculate_configs(exp_conf)
    return experiment.start()


def current() -> Experiment:
    """Return the current experiment.

    Raises:
        LabError: If none was created.
    """
    if _current is None:
        raise LabError("there is no experiment yet: call experiment.create() first")
    return _current


@overload
def calculate_configs(
    configs: C | type[C],
    configs_dict: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
) -> C: ...
@overload
def calculate_configs(
    configs: Mapping[str, Any],
    configs_dict: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
) -> Any: ...
def calculate_configs(
    configs: Any,
    configs_dict: Mapping[str, Any] | None = None,
    run_order: RunOrder | None = None,
    *,
    coerce_strings: bool = False,
) -> Any:
    """Check and compute the configs of the run, and return them.

    Args:
        configs: an instance of a config class, the class, or a plain dict.
        configs_dict: overrides by key.
        run_order: items to compute now, in this order.
        coerce_strings: read strings as a command line means them: ``"0.01"`` for a float.

    Raises:
        ConfigError: With all that is wrong.
    """
    return current().calculate_configs(
        configs, configs_dict, run_order, coerce_strings=coerce_strings
    )


configs = calculate_configs  # labml's name


def add_pytorch_models(models: Mapping[str, Any]) -> None:
    """Put models, or anything with a state dict, into checkpoints under these names.

    Those that are items of the configs are in them anyway.
    """
    current().add_pytorch_models(models)


def start() -> Experiment:
    """Start the run: its folder is made and what is tracked gets written.

    Best as ``with experiment.start():``, so that the run's end, good or bad, is recorded at once.
    """
    return current().start()


def load(run_id: str, checkpoint: int | None = None) -> None:
    """Let the run go on from a checkpoint of another one.

    Args:
        run_id: of the other run.
        checkpoint: the step; the newest undamaged one unless given.

    Raises:
        RunNotFound: If there is no such run.
        CheckpointError: If it has no such checkpoint.
    """
    current().load(run_id, checkpoint)


def save_checkpoint() -> Checkpoint:
    """Save a checkpoint of the run as it stands."""
    return current().save_checkpoint()


def save_artifact(name: str, content: bytes | str | os.PathLike[str]) -> Path:
    """Save a file of your own in the run's folder as ``artifacts/<name>`` and return the path.

    Args:
        name: such as "roc.png" or "plots/roc.png".
        content: the bytes to write, or the path of the file to copy.

    Raises:
        LabError: If the name is none, or the file cannot be read or written.
    """
    return current().save_artifact(name, content)


def save_numpy(name: str, array: Any) -> Path:
    """Save an array in the run's folder as ``numpy/<name>.npy`` and return the path."""
    return current().save_numpy(name, array)
