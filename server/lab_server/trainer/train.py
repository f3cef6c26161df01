"""Trains one attempt of a run, start to end, in a process of its own."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_core import checkpoints, experiment, loop
from lab_core.configs import BaseConfigs, PlainValue, to_yaml_data
from lab_core.errors import CheckpointError
from lab_core.experiment import Status
from lab_core.writers.base import ScalarColumn
from lab_server.files.run_folder import RunFolder
from lab_server.messages import events
from lab_server.model.launch import EXIT_DISK_FULL, EXIT_INTERRUPTED, LaunchSpec
from lab_server.model.log_level import LogLevel
from lab_server.model.run import RunState
from lab_server.trainer import output, setup
from lab_server.trainer.outbox import Outbox, SpoolMetrics
from lab_server.trainer.provenance import ProvenanceRecorder
from lab_server.trainer.registry import Registered
from lab_server.trainer.watcher import Watcher

_DEFAULT_WRITERS = ("sqlite", "tensorboard")
_MAX_REASON_CHARS = 1000


def train(spec: LaunchSpec, found: Registered) -> int:
    """Train, sending every event to the spool; return the process's exit status."""
    folder = RunFolder(spec.folder)
    log_offset = output.redirect(folder)
    faulthandler.enable(2)  # a crash of C code leaves its traceback in the log
    setup.set_signals(_terminate)
    setup.tie_children()
    setup.set_device(spec.device, spec.num_threads)
    setup.seed_by(spec.seed or spec.run_id)
    try:
        outbox = Outbox(folder, spec.attempt)
    except OSError:
        traceback.print_exc()
        return EXIT_DISK_FULL
    return _Attempt(spec, found, folder, outbox, log_offset).run()


_is_terminated = False


def _terminate() -> None:
    """Handle SIGTERM, which is not a requested stop: end soon, with a checkpoint to resume from."""
    global _is_terminated
    _is_terminated = True
    loop.request_stop(checkpoint=True)


@dataclass(frozen=True, slots=True)
class _ResolvedItem:
    """An item of the configs for `events.encode_config`."""

    key: str
    value: PlainValue
    origin: str
    option: str | None
    other_options: tuple[str, ...]
    is_hyperparam: bool


class _Attempt:
    """The one attempt of this process."""

    def __init__(
        self,
        spec: LaunchSpec,
        found: Registered,
        folder: RunFolder,
        outbox: Outbox,
        log_offset: int,
    ) -> None:
        self._spec = spec
        self._found = found
        self._folder = folder
        self._outbox = outbox
        # the current one of the module, which an experiment's own code asks for: save_numpy and the like
        self._experiment = experiment.create(
            name=spec.experiment,
            comment=spec.notes,
            run_name=spec.name,
            writers=[*(spec.writers or _DEFAULT_WRITERS), SpoolMetrics(outbox, spec.media)],
            tags=spec.tags,
            run_id=spec.run_id,
            folder=spec.folder,
            is_saved_at_end=spec.is_saved_at_end,
            is_code_recorded=False,  # but by the recorder, beside the training
        )
        if _is_terminated:  # when this loop was not there to be told
            loop.request_stop(checkpoint=True)
        if spec.until_step:
            self._experiment.loop.until_step = spec.until_step
        self._watcher = Watcher(
            folder,
            outbox,
            log_offset=log_offset,
            lease=spec.lease,
            keeper_pid=spec.keeper_pid,
            usage_interval_s=spec.usage_interval_s,
            device=spec.device,
        )
        self._provenance = ProvenanceRecorder(spec, found.code, self._experiment, outbox)

    def run(self) -> int:
        """Train, and leave the outcome as the last record; return the exit status."""
        self._watcher.start()
        self._provenance.start()
        error: BaseException | None = None
        try:
            self._train()
        except BaseException as raised:
            error = raised
            with contextlib.suppress(OSError):  # of a full disk; the outcome has a reserve
                # what is recorded as the end of the run, when it did not come to `with`
                self._experiment.close(raised)
            if not isinstance(raised, SystemExit):
                _print_error(raised)
        self._provenance.finish()
        _flush()
        self._watcher.stop()
        if self._is_interrupted:
            return EXIT_INTERRUPTED
        state, reason, trace = self._outcome(error)
        return 0 if self._outbox.finish(state, reason, trace) else EXIT_DISK_FULL

    @property
    def _is_interrupted(self) -> bool:
        """True after a SIGTERM without a requested stop: no outcome, the run is retried."""
        return (
            _is_terminated
            and self._watcher.stop_checkpoint is None
            and self._experiment.record.status is Status.STOPPED
        )

    def _train(self) -> None:
        spec, run = self._spec, self._experiment
        configs = self._found.enter()
        run.record.script = getattr(sys.modules[configs.__module__], "__file__", None) or ""
        run.on_checkpoint(self._send_checkpoint)
        run.on_artifact(self._send_artifact)
        setup.check_device(spec.device)
        self._resume()
        conf = run.calculate_configs(
            configs, dict(spec.overrides), [list(group) for group in spec.run_order] or None
        )
        run.add_pytorch_models({name: getattr(conf, name) for name in spec.models})
        with run.start():
            self._watcher.note_start()
            self._outbox.send(
                [
                    events.encode_config(spec.attempt, time.time_ns(), _resolved(conf)),
                    events.encode_state(spec.attempt, time.time_ns(), RunState.RUNNING),
                ]
            )
            experiment.run(conf)
            self._save_end()

    def _save_end(self) -> None:
        """Save what a loop has not saved at its end: there was none, or it was left early."""
        if self._spec.is_saved_at_end:
            try:
                self._experiment.save_final_checkpoint()
            except CheckpointError as error:  # the run is complete all the same
                print(f"{error}; the run ends without it", flush=True)  # noqa: T201 - the run's log

    def _resume(self) -> None:
        """Find where to go on, and send that first: readers drop what was measured later."""
        spec, run = self._spec, self._experiment
        damaged: list[tuple[int, CheckpointError]] = []
        own = self._resume_own(damaged) if spec.is_resume else None
        step = own
        if step is None and spec.parent_folder is not None:
            run.record.parent_run = spec.parent_run_id
            run.load_from(RunFolder(spec.parent_folder).checkpoints, spec.parent_step)
            step = spec.parent_step
        if not spec.is_resume:
            return
        checkpoints.remove_after(self._folder.checkpoints, step or 0)
        # nothing counts of a run that begins anew, also not what was measured at step 0
        after_step, again = -1, {}
        if own is not None:
            # of the last step only what came before the checkpoint: the rest of it is measured again
            after_step, again = run.last_recorded_step, run.last_recorded_row
        run.tracker.truncate(after_step)
        now = time.time_ns()
        truncate = events.encode_truncate(
            spec.attempt, now, after_step - 1 if again else after_step, step
        )
        columns = [ScalarColumn(n, [after_step], [value], []) for n, value in again.items()]
        measured = events.encode_metrics(spec.attempt, now, columns)
        skipped = [
            events.encode_checkpoint(spec.attempt, now, at, damage=str(error))
            for at, error in damaged
        ]
        self._outbox.send([truncate, *measured, *skipped])

    def _resume_own(self, damaged: list[tuple[int, CheckpointError]]) -> int | None:
        for checkpoint in reversed(checkpoints.list_checkpoints(self._folder.checkpoints)):
            # one of step 0 says nothing; and "after step 0" would keep what was measured at 0
            if not 0 < checkpoint.step <= self._spec.max_checkpoint_step:
                continue
            try:
                self._experiment.resume(checkpoint.step)
            except CheckpointError as error:
                damaged.append((checkpoint.step, error))
            else:
                return checkpoint.step
        return None

    def _send_checkpoint(self, step: int, path: Path) -> None:
        size = sum(file.stat().st_size for file in path.iterdir())
        self._outbox.send(
            [events.encode_checkpoint(self._spec.attempt, time.time_ns(), step, size)]
        )

    def _send_artifact(self, path: Path) -> None:
        name = path.relative_to(self._folder.path).as_posix()
        size = path.stat().st_size
        self._outbox.send([events.encode_artifact(self._spec.attempt, time.time_ns(), name, size)])

    def _why_stopped(self) -> str:
        state = self._experiment.loop
        return f"paused at step {state.step}, as asked" if state.has_reached_until_step else ""

    def _outcome(self, error: BaseException | None) -> tuple[RunState, str, str]:
        failure = self._outbox.failure
        if failure is not None:
            return RunState.FAILED, f"its events could not be written: {failure.strerror}", ""
        if error is None or isinstance(error, SystemExit):
            status = self._experiment.record.status
            if status is Status.COMPLETED:
                return RunState.COMPLETED, "", ""
            if status is Status.STOPPED:
                return RunState.STOPPED, self._why_stopped(), ""
            code = error.code if isinstance(error, SystemExit) else None
            return RunState.FAILED, f"the experiment called sys.exit({code!r})", ""
        trace = "".join(traceback.format_exception(error))
        return RunState.FAILED, _in_one_line(error), trace


def _in_one_line(error: BaseException) -> str:
    name, message = type(error).__name__, " ".join(str(error).split())
    if len(message) > _MAX_REASON_CHARS:
        message = message[:_MAX_REASON_CHARS].rpartition(" ")[0] + " ..."
    return f"{name}: {message}" if message else name


def _print_error(error: BaseException) -> None:
    with contextlib.suppress(OSError):
        trace = "".join(traceback.format_exception(error))
        if not output.write(trace, LogLevel.ERROR):
            sys.stderr.write(trace)


def _flush() -> None:
    for file in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            file.flush()


def _resolved(conf: BaseConfigs) -> Iterator[_ResolvedItem]:
    items: dict[str, dict[str, Any]] = to_yaml_data(conf)["items"]
    for key, item in items.items():
        option = item.get("option")
        yield _ResolvedItem(
            key,
            item["value"],
            item["origin"],
            option,
            tuple(name for name in item.get("options", ()) if name != option),
            item["hyperparam"],
        )
