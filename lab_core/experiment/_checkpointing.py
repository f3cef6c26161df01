"""What of a run is in its checkpoints: how it is saved to them, and how it goes on from one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab_core import checkpoints, logger
from lab_core.checkpoints import Checkpoint, Retention
from lab_core.configs import BaseConfigs, computed
from lab_core.errors import CheckpointError, LabError
from lab_core.experiment._history import Recorder
from lab_core.experiment._state import (
    Built,
    Restorer,
    Stateful,
    all_options,
    capture,
    check_name,
    find_stateful,
)
from lab_core.logger import Text
from lab_core.loop import Loop, nothing_to_train
from lab_core.tracker import Tracker


class Checkpointing:
    """Saves a run, and restores it from a checkpoint of its own or of another run.

    Args:
        folder: where the run's checkpoints are.
        loop: the run's.
        tracker: the run's.
        retention: which checkpoints are kept.

    Attributes:
        conf: the run's configs, once they are computed.
        built: how what has a state was when it had just been built.
        recorder: of how the configs were computed.
        restorer: of the checkpoint that the run goes on from; None if there is none, and once it is restored.
    """

    def __init__(self, folder: Path, loop: Loop, tracker: Tracker, retention: Retention) -> None:
        self.conf: BaseConfigs | None = None
        self.built = Built()
        self.recorder = Recorder(
            before=lambda: all_options(self.stateful()),
            after=lambda before: self.built.note_after(before, self.stateful()),
        )
        self.restorer: Restorer | None = None
        self._folder = folder
        self._loop = loop
        self._tracker = tracker
        self._retention = retention
        self._models: dict[str, object] = {}
        self._on_saved: list[Callable[[int, Path], object]] = []
        self._is_same_run = False

    def add(self, models: Mapping[str, object]) -> None:
        """Put models, or anything with a state dict, into checkpoints under these names.

        Raises:
            LabError: If one of them has no state dict, or no name that a file can have.
        """
        if not isinstance(models, Mapping):
            raise LabError(
                f"add_pytorch_models takes a dict, such as {{'model': model}}, got {models!r}"
            )
        added: dict[str, Stateful] = {}
        for name, model in models.items():
            check_name(name)
            if not isinstance(model, Stateful) or isinstance(model, type):
                raise LabError(f"{name!r} has no state_dict: {type(model).__name__}")
            added[name] = model
        self._models.update(added)
        self.built.note_again(added)

    def stateful(self) -> dict[str, Stateful]:
        """Return what has a state now, by name."""
        return find_stateful(self._items(), self._models)

    def on_saved(self, callback: Callable[[int, Path], object]) -> None:
        """Call `callback` with the step and the folder of each checkpoint, once it is durable."""
        self._on_saved.append(callback)

    def save(self) -> Checkpoint:
        """Save the run as it stands.

        Raises:
            CheckpointError: If it cannot be written.
        """
        # what was measured up to here is to be durable before the checkpoint is
        self._tracker.flush()
        states = capture(
            self.stateful(),
            self._loop,
            self._tracker,
            self.recorder.history,
            self.built,
            self.conf,
        )
        saved = checkpoints.save(self._folder, self._loop.step, states, self._tracker.last_values())
        self._loop.saved()
        self._retention.apply(self._folder)
        for callback in self._on_saved:
            callback(saved.step, saved.path)
        return saved

    def go_on_from(self, folder: Path, step: int | None, *, is_same_run: bool = False) -> None:
        """Let the run go on from a checkpoint.

        Args:
            folder: with checkpoints.
            step: of the checkpoint; the newest undamaged one if None.
            is_same_run: whether it is one of this very run: what was recorded behind it is dropped, and
                later checkpoints.

        Raises:
            CheckpointError: If there is none.
        """
        if step is None:
            found, damaged = checkpoints.latest_good(folder)
            for checkpoint in damaged:
                logger.log(
                    f"the checkpoint {checkpoint.path} is damaged and left out", Text.warning
                )
            if found is None:
                raise CheckpointError(f"there is no checkpoint to go on from in {folder}")
        else:
            found = checkpoints.find(folder, step)
        self.restorer = Restorer(checkpoints.load(found.path), self._loop, self._tracker)
        self.recorder.expect(self.restorer.history)
        self._is_same_run = is_same_run

    def begin(self) -> None:
        """Restore the checkpoint that the run goes on from, if any; else note how it begins.

        Raises:
            CheckpointError: If the checkpoint does not fit what was computed.
        """
        restorer = self.restorer
        if restorer is None:
            self.built.note_all(self.stateful())
            self.recorder.note_start()
            return
        if self._is_same_run:
            self._tracker.truncate(restorer.saved_step)
        self.recorder.compute_ahead(restorer.names)
        # before anything is restored: what is built on something restored is built on the old options
        self.built.note_all(self.stateful())
        restorer.begin(self.stateful(), self.built, self.recorder, self.conf)
        if self._is_same_run:
            checkpoints.remove_after(self._folder, restorer.step)
        for name in restorer.drop(self._items(), self.stateful()):
            logger.log(f"the checkpoint's state of {name!r} is left out: it has none any more")
        if restorer.has_place:
            self._loop.on_arrival = self._arrive
        else:
            self._arrive()

    def _arrive(self) -> None:
        restorer, total = self.restorer, self._loop.total_steps
        assert restorer is not None
        restorer.arrive(self.stateful(), self.recorder)
        self.restorer = None
        if not self._is_same_run and total is not None and self._loop.step >= total:
            raise CheckpointError(nothing_to_train(self._loop.step, total))

    def not_arrived(self) -> CheckpointError | None:
        """Return the error of a run that ended before it came to its checkpoint's place; None if it came."""
        if self.restorer is None:
            return None
        place = self._loop.place.unreached or "a loop"
        return CheckpointError(
            f"the run has ended without coming to {place}, where its checkpoint of step {self.restorer.step} "
            "was taken: nothing was trained from there; was a loader or a loop renamed or taken out?"
        )

    def _items(self) -> dict[str, Any]:
        items = computed(self.conf) if self.conf is not None else {}
        return {**items, **self.recorder.ahead()}
