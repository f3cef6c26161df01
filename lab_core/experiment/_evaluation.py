"""The evaluation of a run's models: its checkpoint is loaded, and nothing is recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lab_core.checkpoints import Checkpoint
from lab_core.errors import CheckpointError, LabError
from lab_core.experiment._experiment import Experiment
from lab_core.experiment._header import print_header
from lab_core.experiment._state import Restorer


class Evaluation(Experiment):
    """Shows on the console what is tracked, and leaves no folder, metrics or checkpoints.

    A checkpoint that was loaded is restored at the start, wherever in its run it was taken: the models
    that it has and the configs compute, and whatever else was computed or added by then.

    Args:
        name: shown in the header; by default the script's.
        console: show what goes on.
    """

    def __init__(self, name: str | None = None, *, console: bool = True) -> None:
        super().__init__(name, writers=(), console=console, is_code_recorded=False)

    def _begin(self) -> None:
        if self._is_console:
            print_header(self.record, self.conf)
        if self._checkpointing.restorer is not None:
            self._restore_models(self._checkpointing.restorer)
            self._checkpointing.restorer = None
        self._limit_threads()
        self.tracker.start({})

    def _restore_models(self, restorer: Restorer) -> None:
        if self.conf is not None:
            state = self.conf._lab_state
            for key in restorer.model_names:
                if key in state.spec.sources:
                    state.read(key)
        stateful, built = self._checkpointing.stateful(), self._checkpointing.built
        if not any(name in stateful for name in restorer.names):
            raise CheckpointError(
                f"nothing that the checkpoint of step {restorer.step} has was computed or added; it has "
                f"{', '.join(restorer.names) or 'no model'}"
            )
        built.note_all(stateful)
        restorer.expect(built, self.conf)
        restorer.load(stateful)
        self.loop.step = restorer.step

    def _save_end(self, indicators: Mapping[str, Any]) -> None:
        """Save nothing."""

    def save_checkpoint(self) -> Checkpoint:
        """Refuse it.

        Raises:
            LabError: Always.
        """
        _refuse()

    def save_numpy(self, name: str, array: Any) -> Path:  # noqa: ARG002  # the run's signature
        """Refuse it.

        Raises:
            LabError: Always.
        """
        _refuse()

    def save_artifact(
        self,
        name: str,  # noqa: ARG002
        content: bytes | str | os.PathLike[str],  # noqa: ARG002
    ) -> Path:
        """Refuse it.

        Raises:
            LabError: Always.
        """
        _refuse()


def _refuse() -> NoReturn:
    raise LabError("an evaluation records nothing; train with experiment.create, or record")
