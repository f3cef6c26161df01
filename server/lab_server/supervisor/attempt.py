"""Follows one attempt of a run: its trainer from the start to the last process's end, and its spool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, replace

from lab_server.errors import LaunchError, StoreError
from lab_server.executors.protocol import Executor
from lab_server.files.log_tail import unsent_log_lines
from lab_server.files.run_folder import RunFolder
from lab_server.files.spool import SpoolReader
from lab_server.messages import events
from lab_server.messages.events import DecodedState, EncodedEvent
from lab_server.messages.projection import apply_event
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Run, RunState, TrainerProcess
from lab_server.supervisor.journal import Journal
from lab_server.supervisor.options import SupervisorOptions

_log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20
_LAST_ACTS_S = 5.0  # from the outcome to the process's end
_DAMAGE_S = 1.0
_STORE_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, when no process of it is left.

    Attributes:
        outcome: the trainer's own last word; None when it died without one.
        event: the event with the outcome; None without one.
        end_offset: the spool's offset behind it.
        death: one sentence on a trainer that died, or was made to.
        is_forced: it was ended from outside.
    """

    outcome: DecodedState | None = None
    event: EncodedEvent | None = None
    end_offset: int = 0
    death: str = ""
    is_forced: bool = False


class Attempt:
    """One attempt in its slot. Its task alone reads the spool; `run` returns when all of it is over.

    Args:
        spec: what to launch, None when the trainer was launched by an earlier server.
    """

    def __init__(
        self,
        journal: Journal,
        executor: Executor,
        options: SupervisorOptions,
        run: Run,
        folder: RunFolder,
        spec: LaunchSpec | None,
    ) -> None:
        self._journal = journal
        self._executor = executor
        self._options = options
        self._run_id = run.id
        self._number = run.attempt
        self._folder = folder
        self._spec = spec
        self._process = run.process
        self._spool = SpoolReader(folder.spool(run.attempt))
        self._ending = Ending()
        self._killing: asyncio.Task[None] | None = None
        self._death = ""
        self._stop_at: float | None = None
        self._interruption: tuple[float, str] | None = None
        self._beat = 0
        self._beat_seen = time.monotonic()
        self._caught_up = time.monotonic()
        self._damage_seen: float | None = None

    @property
    def lag_s(self) -> float:
        """For how long the spool has held something that is not in the log."""
        return time.monotonic() - self._caught_up if self._spool.unread_bytes() else 0.0

    def stop_within(self, grace_s: float) -> None:
        """End the trainer by signals when it has not ended by itself so soon; the earliest time holds."""
        deadline = time.monotonic() + grace_s
        self._stop_at = deadline if self._stop_at is None else min(self._stop_at, deadline)

    def interrupt(self, grace_s: float, why: str) -> None:
        """Have the trainer save and end without an outcome, by SIGTERM; SIGKILL comes after grace_s."""
        self._interruption = grace_s, why
        if self._process is not None:
            self._look_after(self._process)

    async def run(self) -> Ending:
        """Launch the trainer, if it is not there, and follow it to its end."""
        try:
            await self._follow()
        except LaunchError as error:
            return Ending(death=f"it could not be started: {error}")
        except Exception:
            _log.exception("run %s: lost track of attempt %d", self._run_id, self._number)
            if self._process is not None:
                await self._end_all(self._process)
            return Ending(death="the server lost track of it; the server's log says how")
        else:
            return replace(
                self._ending,
                death=self._death or "nobody saw how",
                is_forced=self._killing is not None,
            )
        finally:
            self._spool.close()
            if self._killing is not None:
                self._killing.cancel()

    async def _follow(self) -> None:
        if self._spec is not None:
            await self._launch(self._spec)
        if self._process is not None:
            await self._follow_process(self._process)
        while await self._read():
            pass
        if self._ending.outcome is None and self._spool.is_damaged:
            self._death = "its spool file is damaged"
        await self._journal.persist(self._commit_unsent_log_lines)

    async def _launch(self, spec: LaunchSpec) -> None:
        process = await self._executor.launch(spec)
        self._process = process

        async def note() -> None:
            async with self._journal.lock(self._run_id):
                run = self._journal.current(self._run_id)
                await self._journal.commit(replace(run, process=process))

        await self._journal.persist(note)

    async def _follow_process(self, process: TrainerProcess) -> None:
        ended = asyncio.create_task(self._executor.wait(process))
        try:
            while not ended.done() and self._ending.outcome is None:
                if not await self._read():
                    self._look_after(process)
                    await asyncio.wait({ended}, timeout=self._options.poll_s)
            await asyncio.wait({ended}, timeout=_LAST_ACTS_S)
            if ended.done() and not self._death:
                self._death = ended.result() or "it ended without a word"
        finally:
            ended.cancel()
        await self._end_all(process)

    async def _end_all(self, process: TrainerProcess) -> None:
        """End what the trainer left behind; a slot is free only when nothing is left."""
        if self._killing is not None:
            with contextlib.suppress(LaunchError):
                await self._killing
        while True:
            try:
                await self._executor.kill(process, grace_s=0)
            except LaunchError as error:
                _log.error("run %s: %s; trying again", self._run_id, error)
            else:
                return

    def _look_after(self, process: TrainerProcess) -> None:
        now = time.monotonic()
        if self._killing is not None:
            return
        if self._interruption is not None:
            self._kill(process, *self._interruption)
            return
        if self._stop_at is not None and now >= self._stop_at:
            self._kill(process, self._options.term_grace_s, "it did not stop in time")
            return
        try:
            beat = self._folder.beat(self._number).stat().st_mtime_ns
        except OSError:
            beat = 0
        if beat != self._beat:
            self._beat, self._beat_seen = beat, now
        stall_s = self._options.stall_timeout_s
        if now - self._beat_seen > stall_s:
            self._kill(process, 0, f"it showed no sign of life for {stall_s:g} s")
        if not self._spool.is_damaged:
            self._damage_seen = None
        elif self._damage_seen is None:
            self._damage_seen = now
        elif now - self._damage_seen > _DAMAGE_S:
            self._kill(process, 0, "its spool file is damaged")

    def _kill(self, process: TrainerProcess, grace_s: float, why: str) -> None:
        _log.warning("run %s: ending its trainer: %s", self._run_id, why)
        self._death = why
        self._killing = asyncio.create_task(self._executor.kill(process, grace_s=grace_s))

    async def _commit_unsent_log_lines(self) -> None:
        """Put into the log what was printed and not told: by a trainer that was killed, or its children."""
        lines, position = await asyncio.to_thread(unsent_log_lines, self._folder, self._number)
        if not lines:
            return
        async with self._journal.lock(self._run_id):
            run = self._journal.current(self._run_id)
            await self._journal.commit(run, events.encode_log(self._number, time.time_ns(), lines))
        with contextlib.suppress(OSError):
            self._folder.log_position(self._number).write_bytes(position.to_bytes(8, "little"))

    async def _read(self) -> bool:
        """Move what the spool has into the log; return whether there was anything."""
        if self._ending.outcome is not None:
            return False
        if not self._spool.unread_bytes():
            self._caught_up = time.monotonic()
            return False
        async with self._journal.lock(self._run_id):
            run = self._journal.current(self._run_id)
            # what was read and could not be committed is read again
            self._spool.offset = run.spool_offset
            records = self._spool.read(_READ_BYTES)
            if not records:
                self._caught_up = time.monotonic()
                return False
            news: list[EncodedEvent] = []
            for record in records:
                event = events.recognise(record.payload)
                told = events.decode_state(event.payload) if event.kind == "state" else None
                if told is not None and told.state.is_terminal:
                    # held back until no process is left
                    self._ending = Ending(told, event, record.end_offset)
                    break
                run = replace(run, spool_offset=record.end_offset)
                if told is None:
                    run = apply_event(run, event)
                elif run.state is RunState.STARTING:
                    now = time.time_ns()
                    began = run.start_time_ns or now
                    run = replace(run, state=told.state, reason="", start_time_ns=began)
                else:
                    continue  # asked to stop before it began: it does not count as running
                news.append(event)
            try:
                await self._journal.commit(run, news)
            except StoreError as error:
                _log.error("run %s: %s; trying again", self._run_id, error)
                self._ending = Ending()
                self._spool.offset = self._journal.current(self._run_id).spool_offset
            else:
                return True
        await asyncio.sleep(_STORE_RETRY_S)
        return True
