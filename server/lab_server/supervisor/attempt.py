"""Follows one attempt of a run: launches its trainer, reads its spool, waits for its last process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from lab_server.descriptors import raise_if_blind
from lab_server.errors import LaunchError, StoreError
from lab_server.executors.last_lines import last_lines
from lab_server.executors.last_rows import take_over
from lab_server.executors.protocol import Executor
from lab_server.executors.spool_bell import SpoolBell
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.logs import RUNS
from lab_server.messages import events
from lab_server.messages.events import EncodedEvent
from lab_server.messages.projection import apply_events
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Run, TrainerProcess
from lab_server.processes.patience import patiently
from lab_server.supervisor.live_runs import LiveRuns
from lab_server.supervisor.options import SupervisorOptions
from lab_server.supervisor.records import AttemptResult, read_records

NOT_STARTED = "it could not be started: "
"""Begins the cause of an attempt that has no trainer."""

_log = structlog.get_logger(RUNS)

_READ_BYTES = 1 << 20
_EXIT_S = 5.0  # from the outcome to the process's end
_DAMAGE_S = 1.0
_BEAT_POLL_S = 1.0
_STORE_RETRY_S = 1.0
_KILL_RETRY_S = 1.0
_SILENCE_S = 10.0  # a trainer reports within the half of it that it does no more steps
_SILENT_STEPS = 6.0


class Attempt:
    """One attempt in its slot; only its own task reads the spool.

    Args:
        spec: what to launch, None when the trainer was launched by an earlier server.
    """

    def __init__(
        self,
        live_runs: LiveRuns,
        executor: Executor,
        options: SupervisorOptions,
        run: Run,
        folder: RunFolder,
        spec: LaunchSpec | None,
    ) -> None:
        self._live_runs = live_runs
        self._executor = executor
        self._options = options
        self._run_id = run.id
        self._lock = live_runs.lock(run.id)  # kept, for it is taken for each event
        self._number = run.attempt
        self._folder = folder
        self._spec = spec
        self._process = run.process
        self._spool = SpoolReader(folder.spool(run.attempt))
        self._bell = SpoolBell(folder.spool(run.attempt), options.poll_s)
        self._result = AttemptResult()
        self._killing: asyncio.Task[None] | None = None
        self._cause = ""
        self._lines: Sequence[EncodedEvent] = ()
        self._is_lost = False
        self._stop_at: float | None = None
        self._stop_grace_s = 0.0
        self._interruption: tuple[float, str] | None = None
        self._beat = 0
        self._look_at_beat_at = 0.0
        self._beat_seen = time.monotonic()
        self._progress_seen = time.monotonic()
        self._caught_up = time.monotonic()
        self._damage_seen: float | None = None

    @property
    def lag_s(self) -> float:
        """Age of the oldest event that is in the spool and not in the log."""
        try:
            has_more = self._spool.unread_bytes() > 0
        except OSError:  # it cannot be opened now
            has_more = True
        return time.monotonic() - self._caught_up if has_more else 0.0

    def stop_within(self, grace_s: float) -> None:
        """End the trainer by signals unless it ends by itself before; the earliest deadline holds."""
        deadline = time.monotonic() + grace_s
        self._stop_grace_s = grace_s
        self._stop_at = deadline if self._stop_at is None else min(self._stop_at, deadline)
        self._bell.ring()  # the wait is to end at the deadline

    def interrupt(self, grace_s: float, cause: str) -> None:
        """Have the trainer save and exit without an outcome: SIGTERM, and SIGKILL after grace_s."""
        self._interruption = grace_s, cause
        if self._process is not None:
            self._enforce_deadlines(self._process)

    @property
    def is_lost(self) -> bool:
        """Whether its agent was given up: not all that it wrote is here."""
        return self._is_lost

    async def run(self) -> AttemptResult:
        """Launch the trainer, unless it runs already, and follow it to its end."""
        try:
            # again, where there was no file descriptor for something: all that it has done is done
            await patiently(self._follow)
        except LaunchError as error:
            return AttemptResult(cause=f"{NOT_STARTED}{error}")
        except Exception:
            _log.exception("lost track of the trainer", run=self._run_id, attempt=self._number)
            if self._process is not None:
                await self._end_all(self._process)
            return AttemptResult(cause="the server lost track of it; see the server's log")
        else:
            return replace(
                AttemptResult() if self._is_lost else self._result,
                cause=self._cause or "exit status unknown",
                is_forced=self._killing is not None,
                lines=self._lines,
            )
        finally:
            self._spool.close()
            self._bell.close()
            if self._killing is not None:
                self._killing.cancel()

    async def _follow(self) -> None:
        if self._spec is not None:
            await self._launch(self._spec)
        if self._process is not None:
            await self._follow_process(self._process)
        while await self._read():
            pass
        if self._result.outcome is None:
            if self._spool.is_damaged:
                self._cause = "its spool file is damaged"
            elif await self._take_over_metrics():
                while await self._read():
                    pass
        self._lines = await asyncio.to_thread(self._unsent_lines)

    async def _launch(self, spec: LaunchSpec) -> None:
        process = await self._executor.launch(spec)
        self._process, self._spec = process, None

        async def record_process() -> None:
            async with self._lock:
                run = self._live_runs.current(self._run_id)
                await self._live_runs.commit(replace(run, process=process))

        await self._live_runs.persist(record_process)

    async def _follow_process(self, process: TrainerProcess) -> None:
        ended = asyncio.create_task(self._executor.wait(process))
        ended.add_done_callback(lambda _: self._bell.ring())
        try:
            while not ended.done() and self._result.outcome is None:
                has_read = await self._read()
                # also where there is always more, or the store takes nothing
                self._enforce_deadlines(process)
                if not has_read:
                    await self._note_silence()
                    await self._bell.wait(self._due_s())
            await asyncio.wait({ended}, timeout=_EXIT_S)
            if ended.done() and not self._cause:
                self._cause = ended.result() or "it exited without reporting an outcome"
        finally:
            ended.cancel()
        await self._end_all(process)
        if self._executor.is_lost(process):
            # an outcome whose files are lost with their agent is none: the run is tried again
            self._is_lost = True
            self._cause = await self._executor.wait(process)

    async def _end_all(self, process: TrainerProcess) -> None:
        """Kill what the trainer left behind: a slot is free only when no process is left."""
        if self._killing is not None:
            with contextlib.suppress(LaunchError, OSError):
                await self._killing
        while True:
            try:
                await self._executor.kill(process, grace_s=0)
            except (LaunchError, OSError) as error:
                _log.error(
                    "cannot end the trainer; trying again", run=self._run_id, error=str(error)
                )
                await asyncio.sleep(_KILL_RETRY_S)
            else:
                return

    def _enforce_deadlines(self, process: TrainerProcess) -> None:
        now = time.monotonic()
        if self._killing is not None:
            return
        if self._executor.out_of_reach(process):
            self._note_out_of_reach(now)
        else:
            self._enforce_at(process, now)

    def _enforce_at(self, process: TrainerProcess, now: float) -> None:
        if self._interruption is not None:
            self._kill(process, *self._interruption)
            return
        if self._stop_at is not None and now >= self._stop_at:
            self._kill(process, self._options.term_grace_s, "it did not stop in time")
            return
        if now >= self._look_at_beat_at:
            self._look_at_beat_at = now + _BEAT_POLL_S
            self._look_at_beat(now)
        stall_s = self._options.stall_timeout_s
        if now - self._beat_seen > stall_s:
            self._kill(process, 0, f"it made no progress for {stall_s:g} s")
        if not self._spool.is_damaged:
            self._damage_seen = None
        elif self._damage_seen is None:
            self._damage_seen = now
        elif now - self._damage_seen > _DAMAGE_S:
            self._kill(process, 0, "its spool file is damaged")

    def _due_s(self) -> float:
        """Return in how many seconds the trainer is to be ended, if it is to be stopped."""
        if self._stop_at is None or self._killing is not None:
            return math.inf
        return max(self._stop_at - time.monotonic(), self._options.poll_s)

    def _look_at_beat(self, now: float) -> None:
        try:
            beat = self._folder.heartbeat(self._number).stat().st_mtime_ns
        except OSError:
            beat = 0
        if beat != self._beat:
            self._beat, self._beat_seen = beat, now

    def _note_out_of_reach(self, now: float) -> None:
        """Judge nothing that cannot be seen: the times begin anew when the trainer is in reach again."""
        self._beat_seen = self._progress_seen = now
        if self._stop_at is not None:
            self._stop_at = max(self._stop_at, now + self._stop_grace_s)

    def _kill(self, process: TrainerProcess, grace_s: float, cause: str) -> None:
        _log.warning("killing the trainer", run=self._run_id, reason=cause)
        self._cause = cause
        self._killing = asyncio.create_task(self._executor.kill(process, grace_s=grace_s))

    async def _note_silence(self) -> None:
        """Record a speed of 0 for a trainer that hangs as a whole, so that it cannot do so itself."""
        run = self._live_runs.current(self._run_id)
        if not run.steps_per_second:
            return
        longest_s = max(_SILENCE_S, _SILENT_STEPS / run.steps_per_second)
        if time.monotonic() - self._progress_seen < longest_s:
            return
        async with self._lock:
            run = self._live_runs.current(self._run_id)
            event = events.encode_progress(self._number, time.time_ns(), run.step, run.total_steps)
            try:
                await self._live_runs.commit(apply_events(run, [event]), [event])
            except StoreError as error:
                self._live_runs.note_outage(error)
                self._progress_seen = time.monotonic()

    async def _take_over_metrics(self) -> bool:
        """Put into the spool what a killed trainer had saved and could not send."""
        while True:
            try:
                num_rows = await asyncio.to_thread(
                    take_over, self._folder, self._number, self._spool.offset
                )
            except OSError as error:
                raise_if_blind(error)
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    _log.error("lost the last metrics", run=self._run_id, error=str(error))
                    return False
                self._live_runs.note_outage(
                    StoreError("the disk of the server has no room for a run's last metrics")
                )
                await asyncio.sleep(_STORE_RETRY_S)
            else:
                return num_rows > 0

    def _unsent_lines(self) -> Sequence[EncodedEvent]:
        """Return what a killed trainer, or a child of it, printed and could not send."""
        last = last_lines(self._folder, self._number)
        return events.encode_lines(self._number, time.time_ns(), last.lines if last else ())

    async def _read(self) -> bool:
        """Move events from the spool into the log; return whether there were any."""
        if self._result.outcome is not None:
            return False
        if not self._spool.unread_bytes():
            self._caught_up = time.monotonic()
            return False
        async with self._lock:
            run = self._live_runs.current(self._run_id)
            # what was read and could not be committed is read again
            self._spool.offset = run.spool_offset
            records = self._spool.read(_READ_BYTES)
            if not records:
                self._caught_up = time.monotonic()
                return False
            read = read_records(run, records)
            if read.result is not None:
                # committed by the runner, when no process is left
                self._result = read.result
            if any(event.kind == "progress" for event in read.events):
                self._progress_seen = time.monotonic()
            try:
                await self._live_runs.commit(read.run, read.events)
            except StoreError as error:
                self._live_runs.note_outage(error)
                self._result = AttemptResult()
                self._spool.offset = self._live_runs.current(self._run_id).spool_offset
            else:
                await self._live_runs.renew_extremes(self._run_id)
                return True
        await asyncio.sleep(_STORE_RETRY_S)
        return True
