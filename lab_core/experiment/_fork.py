"""A trial of a fork: what its configs would change that its checkpoint cannot go on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_core import checkpoints
from lab_core.configs import BaseConfigs, calculate, computed, schema, settings
from lab_core.errors import Violation
from lab_core.experiment._state import Built, Misfit, Restorer, find_stateful
from lab_core.loop import Loop, nothing_to_train
from lab_core.tracker import Tracker

_TOTAL = "loop_count"


@dataclass(frozen=True, slots=True)
class ForkTrial:
    """What became of a trial.

    Attributes:
        violations: what cannot be carried over, and that nothing is left to train, if so.
        start_step: the global step of the checkpoint.
        total_steps: the global step at which the fork would end; None if its configs do not say.
    """

    violations: tuple[Violation, ...]
    start_step: int
    total_steps: int | None


def try_fork(
    configs: type[BaseConfigs], overrides: Mapping[str, Any], folder: Path, step: int
) -> ForkTrial:
    """Build what a checkpoint has a state of, as a fork's configs say, and see whether it fits.

    It computes these items for good, and what they read: in a process of its own, at best.

    Args:
        configs: the config class.
        overrides: of the fork, all of them.
        folder: the ``checkpoints`` folder of the run to be forked.
        step: of the checkpoint.

    Raises:
        CheckpointError: If there is no such checkpoint, or it is damaged.
        ConfigError: If the overrides are wrong.
    """
    states = checkpoints.load(checkpoints.find(folder, step).path)
    restorer = Restorer(states, Loop(), Tracker())
    known = schema(configs).keys()
    wanted = [name for name in (*restorer.names, _TOTAL) if name in known]
    conf: BaseConfigs = calculate(configs, overrides, wanted)
    stateful = find_stateful(computed(conf), {})
    built = Built()
    built.note_all(stateful)
    restorer.expect(built, conf)
    violations: tuple[Violation, ...] = ()
    try:
        restorer.load(stateful)
        restorer.drop(computed(conf), stateful)
    except Misfit as error:
        violations = error.violations
    total = getattr(conf, _TOTAL) if _TOTAL in known else None
    if total is not None and restorer.step >= total:
        key = _setting_behind(conf, overrides)
        violations += (Violation(key, nothing_to_train(restorer.step, total)),)
    return ForkTrial(violations, restorer.step, total)


def _setting_behind(conf: BaseConfigs, overrides: Mapping[str, Any]) -> str:
    """Return which override the end comes from: epochs, say."""
    behind = settings(conf).behind(_TOTAL)
    return next((key for key in behind if key in overrides), _TOTAL)
