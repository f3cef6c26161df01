"""One run of an experiment: its folder, its parts, its beginning and its end."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lab_core import lab, logger, loop, tracker
from lab_core._interrupts import end_loudly, end_quietly, release
from lab_core._termination import catch_terminations, hold_signals, release_terminations
from lab_core.checkpoints import Checkpoint, KeepBest, Retention
from lab_core.configs import BaseConfigs, calculate, hyperparams, to_yaml_data
from lab_core.errors import CheckpointError, LabError, SettingsError
from lab_core.experiment._artifacts import Artifacts
from lab_core.experiment._checkpointing import Checkpointing
from lab_core.experiment._ending import note_end
from lab_core.experiment._header import print_header
from lab_core.experiment._places import (
    check_name,
    find_run,
    main_script,
    make_folder,
    name_of_script,
)
from lab_core.experiment._provenance import note_provenance
from lab_core.experiment._record import RunRecord, Status, new_run_id, now, write_yaml
from lab_core.experiment._reserve import Reserve
from lab_core.experiment._writers import listed
from lab_core.logger import Text
from lab_core.provenance import (
    Code,
    Environment,
    GitState,
    code_of,
    read_environment,
    read_git,
)
from lab_core.tracker.tracker import INTERVAL_S
from lab_core.utils.memory import keep_freed_memory
from lab_core.utils.threads import limit_threads
from lab_core.writers import create as create_writers
from lab_core.writers.base import Writer

C = TypeVar("C", bound=BaseConfigs)
RunOrder = Sequence[str | Sequence[str]]

_RUN = "_lab_run"  # on the interrupt that ended a run: the run's id
_DEFAULT_WRITERS = ("sqlite", "tensorboard")


class Experiment:
    """A run: made, given its configs, started, ended.

    Making one puts a fresh tracker and a fresh loop in place. Use it as a context manager, by
    ``with experiment.start():``; without, it ends with the next one or with the process.

    Args:
        name: of the experiment, by default the script's; letters, digits, ``_``, ``.`` and ``-``.
        comment: whatever is to be remembered about the run.
        writers: names (`sqlite`, `tensorboard`) or writers; both of those when None.
        tags: to find the run by.
        run_name: of the run, for people; the experiment's when empty.
        run_id: made up unless given.
        folder: of the run; ``<experiments path>/<name>/<run id>`` unless given.
        console: show what goes on, and what is declared with `is_print`.
        keep_last: how many of the newest checkpoints are kept; None keeps all.
        keep_best: keep the checkpoint at which a metric was best, too.
        checkpoint_interval: steps between checkpoints, inside iterations too; None for none.
        write_interval_s: longest time between two batches to the writers; the first come sooner.
        is_saved_at_end: save a checkpoint at the end, if the run has models or optimizers.
        is_code_recorded: record the code of the configs, the git repository around it, and versions.
    """

    def __init__(
        self,
        name: str | None = None,
        comment: str = "",
        writers: Iterable[str | Writer] | None = None,
        tags: Iterable[str] | None = None,
        *,
        run_name: str = "",
        run_id: str | None = None,
        folder: Path | None = None,
        console: bool = True,
        keep_last: int | None = 3,
        keep_best: KeepBest | None = None,
        checkpoint_interval: int | None = None,
        write_interval_s: float = INTERVAL_S,
        is_code_recorded: bool = True,
        is_saved_at_end: bool = False,
    ) -> None:
        script = main_script()
        name = name if name is not None else name_of_script(script)
        check_name(name, "an experiment's name")
        if run_id is not None:
            check_name(run_id, "a run's id")
        self.record = RunRecord(
            id=run_id or new_run_id(),
            experiment=name,
            name=run_name or name,
            notes=comment,
            tags=[tags] if isinstance(tags, str) else list(tags or ()),
            script=str(script or ""),
            pid=os.getpid(),
        )
        self.folder = folder or lab.get_experiments_path() / name / self.record.id
        self._is_console = console
        if checkpoint_interval is not None and checkpoint_interval < 1:
            raise SettingsError(
                f"checkpoint_interval must be at least 1, or None, got {checkpoint_interval!r}"
            )
        self._checkpoint_interval = checkpoint_interval
        self._is_code_recorded = is_code_recorded
        self._is_saved_at_end = is_saved_at_end
        self._artifacts = Artifacts(self.folder)
        self._lost: CheckpointError | None = None
        self._is_started = False
        self._is_closed = False
        self.loop = loop.Loop()
        self._reserve = Reserve(self.folder / ".reserve")
        wanted = list(_DEFAULT_WRITERS if writers is None else listed(writers))
        if console and "console" not in wanted:
            wanted.append("console")
        self.tracker = tracker.Tracker(
            create_writers(wanted, self.folder, lambda: self.loop.total_steps),
            interval_s=write_interval_s,
            get_step=lambda: self.loop.step,
        )
        self._checkpointing = Checkpointing(
            self.checkpoints_folder, self.loop, self.tracker, Retention(keep_last, keep_best)
        )
        loop.set_current(self.loop)
        tracker.set_current(self.tracker)
        end_quietly(self._is_ended_by)

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.record.id

    @property
    def conf(self) -> BaseConfigs | None:
        """The run's configs, once they are computed."""
        return self._checkpointing.conf

    @property
    def last_recorded_step(self) -> int:
        """The last step that a run about to resume goes on behind, in what it recorded; -1 for none."""
        restorer = self._checkpointing.restorer
        return -1 if restorer is None else restorer.saved_step

    @property
    def last_recorded_row(self) -> dict[str, float]:
        """The scalars that were recorded at that step before the checkpoint was taken."""
        restorer = self._checkpointing.restorer
        return {} if restorer is None else restorer.saved_row

    @property
    def checkpoints_folder(self) -> Path:
        """Where the run's checkpoints are."""
        return self.folder / "checkpoints"

    # -- before the start ----------------------------------------------------------------------

    def calculate_configs(
        self,
        configs: BaseConfigs | type[BaseConfigs] | Mapping[str, Any],
        configs_dict: Mapping[str, Any] | None = None,
        run_order: RunOrder | None = None,
        *,
        coerce_strings: bool = False,
    ) -> Any:
        """Check and compute the configs of the run, and return them; see ``calculate``."""
        self._checkpointing.conf = calculate(
            configs,
            configs_dict,
            run_order,
            coerce_strings=coerce_strings,
            before_computing=self._checkpointing.recorder.watch,
        )
        return self.conf

    def add_pytorch_models(self, models: Mapping[str, object]) -> None:
        """Put models, or anything with a state dict, into checkpoints under these names.

        Raises:
            LabError: If one of them has no state dict.
        """
        self._checkpointing.add(models)

    def note_provenance(self, code: Code, git: GitState | None, environment: Environment) -> None:
        """Record which code the run is made of, and where it runs; any thread may, at any time.

        Raises:
            OSError: If the run's folder cannot be written.
        """
        note_provenance(self.record, self.folder, code, git, environment)
        self.record.save(self.folder)

    def on_checkpoint(self, callback: Callable[[int, Path], object]) -> None:
        """Call `callback` with the step and the folder of each checkpoint, once it is durable."""
        self._checkpointing.on_saved(callback)

    def on_artifact(self, callback: Callable[[Path], object]) -> None:
        """Call this with the path of each file that `save_artifact` and `save_numpy` have saved."""
        self._artifacts.on_saved(callback)

    def load(self, run_id: str, checkpoint: int | None = None) -> None:
        """Let the run go on from a checkpoint of another one; see ``experiment.load``."""
        self._refuse_after_start()
        folder = find_run(run_id)
        self.record.parent_run = run_id
        self._checkpointing.go_on_from(folder / "checkpoints", checkpoint)

    def load_from(self, folder: Path, step: int) -> None:
        """Let the run go on from a checkpoint of another one, whose checkpoints are in `folder`.

        Raises:
            CheckpointError: If there is none of this step, or it is damaged.
        """
        self._checkpointing.go_on_from(folder, step)

    def resume(self, checkpoint: int | None = None) -> None:
        """Let this very run, whose folder exists, go on from one of its checkpoints.

        What its writers have of later steps is dropped, and so are later checkpoints.

        Args:
            checkpoint: the step; the newest undamaged one unless given.

        Raises:
            CheckpointError: If there is none.
        """
        self._refuse_after_start()
        self._checkpointing.go_on_from(self.checkpoints_folder, checkpoint, is_same_run=True)

    def _refuse_after_start(self) -> None:
        if self._is_started:
            raise LabError("load a checkpoint before the run is started")

    # -- the run -------------------------------------------------------------------------------

    def start(self) -> Experiment:
        """Start the run: make its folder, restore a checkpoint, let the writers write.

        Raises:
            LabError: If it was started before.
            CheckpointError: If the checkpoint does not fit what was computed.
        """
        if self._is_started or self._is_closed:
            raise LabError(f"the run {self.run_id} was started before; create another one")
        self._is_started = True
        loop.set_current(self.loop)
        tracker.set_current(self.tracker)
        self.record.start = now()
        self.record.pid = os.getpid()
        self.loop.error_before = getattr(sys, "last_value", None)
        atexit.register(self._close_at_exit)
        try:
            self._begin()
        except BaseException as error:
            self.close(error)
            raise
        return self

    def _begin(self) -> None:
        make_folder(self.folder)
        if self._checkpointing.restorer is not None:
            self.record.start_step = self._checkpointing.restorer.step
        if self._is_code_recorded:
            self._record_code()
        self.record.save(self.folder)
        self._reserve.take()
        catch_terminations(self.loop)
        self._save_configs()
        if self._is_console:
            print_header(self.record, self.conf)
        self._checkpointing.begin()
        keep_freed_memory()
        self._limit_threads()
        self.loop.save = self.save_checkpoint
        self.loop.save_end = self.save_final_checkpoint if self._is_saved_at_end else None
        self.loop.save_every(self._checkpoint_interval)
        hparams: dict[str, Any] = hyperparams(self.conf) if self.conf is not None else {}
        self.tracker.start(hparams)

    def _limit_threads(self) -> None:
        num = limit_threads()
        if num is not None and self._is_console:
            logger.log(f"torch's threads: {num}, as many as the CPUs that this process may use")

    def __enter__(self) -> Experiment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.close(error)
        if self._lost is not None:
            raise self._lost
        if error is None and self.loop.exit_status is not None:
            # it was asked to end, and came to its end before
            self.loop.end_now(self.loop.exit_status)
        return isinstance(error, loop.StopRun) and error.code is None

    def close(self, error: BaseException | None = None) -> None:
        """End the run, and record how: by what raised, if anything did. Again is fine.

        In a process that was forked from the run's nothing is recorded: the run is its parent's.
        """
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self._close_at_exit)
        self.loop.save = self.loop.save_end = None
        release(self.loop)
        release_terminations(self.loop)
        if os.getpid() != self.record.pid:
            return
        if isinstance(error, KeyboardInterrupt):
            vars(error)[_RUN] = self.run_id  # not kept by the run: it would keep its frames alive
        else:
            end_loudly(self._is_ended_by)
        if not self._is_started:
            self.tracker.close()
            return
        with hold_signals():
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            error = self._lost = self._checkpointing.not_arrived()
        note_end(self.record, error, self.loop)
        indicators = self.tracker.indicators()
        if isinstance(error, loop.StopRun) and error.is_saved:
            # what was added and not saved is in the checkpoint, and would be there twice
            self.tracker.reset()
        self.tracker.close(status=self.record.status.value)
        self.record.end = now()
        self._save_end(indicators)
        if self._is_console and self.record.status is Status.STOPPED:
            logger.log(f"stopped at step {self.loop.step}: {self.folder}", Text.warning)

    def _save_end(self, indicators: Mapping[str, Any]) -> None:
        """Write the record, from its reserve if the disk is full, and then what is less important."""
        self._reserve.release()
        try:
            self.record.save(self.folder)
            self._save_configs()
            write_yaml(self.folder / "indicators.yaml", indicators)
        except OSError as error:
            logger.log(f"not all of {self.folder} could be written: {error}", Text.warning)

    def _is_ended_by(self, interrupt: BaseException) -> bool:
        self.close(interrupt)
        return vars(interrupt).get(_RUN) == self.run_id

    def last_error(self) -> BaseException | None:
        """Return what the interpreter reported since training began: a run without ``with`` ended by it."""
        error: BaseException | None = getattr(sys, "last_value", None)
        return None if error is self.loop.error_before else error

    def _close_at_exit(self) -> None:
        """Close a run whose script did not use ``with``: by what the interpreter reported, if so."""
        self.close(self.last_error())

    # -- what it leaves ------------------------------------------------------------------------

    def save_checkpoint(self) -> Checkpoint:
        """Save a checkpoint of the run as it stands; at the same step again is fine.

        Raises:
            LabError: If the run is not in progress.
            CheckpointError: If it cannot be written.
        """
        if self.loop.place.unreached:
            raise LabError(
                f"the run is on its way to {self.loop.place.unreached}, where its checkpoint was taken; it can "
                "be saved from there on"
            )
        if not self._is_started or self._is_closed:
            raise LabError("only a run in progress can be saved: call experiment.start() first")
        if os.getpid() != self.record.pid:
            raise LabError(f"the run is of process {self.record.pid}, which alone can save it")
        return self._checkpointing.save()

    def save_final_checkpoint(self) -> Checkpoint | None:
        """Save the run at its end, unless it is saved at this step or has nothing to save.

        Raises:
            CheckpointError: If it cannot be written.
        """
        if (
            self.loop.place.unreached
            or self.loop.saved_step == self.loop.step
            or not self._checkpointing.stateful()
        ):
            return None
        return self.save_checkpoint()

    def save_artifact(self, name: str, content: bytes | str | os.PathLike[str]) -> Path:
        """Save a file of your own as ``artifacts/<name>`` in the run's folder and return the path.

        Args:
            name: such as "roc.png" or "plots/roc.png"; one of that name is replaced.
            content: the bytes to write, or the path of the file to copy.

        Raises:
            LabError: If the name is none, or the file cannot be read or written.
        """
        return self._artifacts.save(name, content)

    def save_numpy(self, name: str, array: Any) -> Path:
        """Save an array as ``numpy/<name>.npy`` in the run's folder and return the path."""
        return self._artifacts.save_numpy(name, array)

    def _record_code(self) -> None:
        configs = None if self.conf is None else type(self.conf)
        if configs is not None and configs.__module__.startswith("lab_core."):
            configs = None  # made of a dict
        code = code_of(configs, with_script=True)
        path = self.record.script or code.path
        folder = Path(path).parent if path else Path.cwd()
        git = read_git(folder, [file.location for file in code.files])
        note_provenance(self.record, self.folder, code, git, read_environment())
        if git is not None and git.is_dirty and lab.check_repo_dirty():
            logger.log("the git repository has uncommitted changes", Text.warning)

    def _save_configs(self) -> None:
        if self.conf is not None:
            write_yaml(self.folder / "configs.yaml", to_yaml_data(self.conf))
