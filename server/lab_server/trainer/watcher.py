"""A trainer's second thread: it executes the server's commands, and sends log lines, progress and what the run uses."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lab_core import loop
from lab_core._threads import show_thread_name
from lab_server.files.changes import Changes
from lab_server.files.lease import Lease, now_s
from lab_server.files.run_folder import RunFolder
from lab_server.messages import events
from lab_server.processes.proc import identify, is_alive
from lab_server.trainer.log_sender import LogSender
from lab_server.trainer.outbox import Outbox
from lab_server.trainer.speed import Speed
from lab_server.trainer.usage import Usage

PAUSE_S = 0.025
"""From one look at the files to the next, at least, while they change all the time."""

_PROGRESS_S = 1.0
_INT64_MAX = 2**63 - 1


class Watcher:
    """Reads `control` and `log.txt` whenever they have changed, and by itself once a second, until stopped.

    It owns what it read so far; the training thread only starts and stops it, and notes the start.

    Attributes:
        stop_checkpoint: set once the server asked to stop: whether with a checkpoint.
    """

    def __init__(
        self,
        folder: RunFolder,
        outbox: Outbox,
        *,
        log_offset: int,
        lease: Path | None = None,
        keeper_pid: int = 0,
        usage_interval_s: float = 0.0,
        device: str = "",
    ) -> None:
        self.stop_checkpoint: bool | None = None
        self._folder = folder
        self._outbox = outbox
        self._control_offset = 0
        self._log = LogSender(folder, outbox, log_offset)
        self._usage: Usage | None = None
        self._usage_interval_s, self._device = usage_interval_s, device
        self._start_step = 0
        self._speed: Speed | None = None
        self._sent: tuple[int, float] = 0, 0.0
        self._failed: list[object] = []
        self._activity = -1
        self._lease_file = lease
        self._lease = Lease(0.0, 0.0)
        self._is_lease_over = False
        self._has_keeper = bool(keeper_pid)
        self._keeper = identify(keeper_pid) if keeper_pid else None
        self._is_done = threading.Event()
        self._is_behind = False  # there is more in the log than was sent at once
        self._changes = Changes([folder.control, folder.log])
        outbox.on_failure = self._changes.wake
        self._thread = threading.Thread(target=self._run, name="lab-watcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def note_start(self) -> None:
        """Measure speed and use from now and from the present step, a resumed run's from its checkpoint."""
        self._start_step = loop.get_global_step()
        self._speed = Speed(time.monotonic(), self._start_step)

    def stop(self) -> None:
        """Send the rest of the log and the last step, and end the thread."""
        self._is_done.set()
        self._changes.wake()
        self._thread.join()

    def _run(self) -> None:
        show_thread_name()
        next_progress = 0.0
        self._is_done.wait(PAUSE_S)
        while not self._is_done.is_set():
            has_changed = self._changes.wait(self._pause_s(next_progress))
            self._guard(self._read_commands)
            self._guard(self._heed_lease)
            self._guard(self._send_log)
            self._heed_failure()
            now = time.monotonic()
            if now >= next_progress:
                next_progress = now + _PROGRESS_S
                self._guard(self._touch_heartbeat)
                self._guard(self._heed_keeper)
                self._guard(self._send_progress, now)
                self._guard(self._send_usage, now)
            if has_changed or self._is_behind:
                self._is_done.wait(PAUSE_S)
        self._guard(self._log.send_rest)
        self._guard(self._send_progress, time.monotonic())
        self._heed_failure()

    def _pause_s(self, next_progress: float) -> float:
        """Return how long there is nothing to do unless a file changes."""
        if self._is_behind:
            return 0.0
        pause_s = next_progress - time.monotonic()
        if self._lease_file is not None:
            pause_s = min(pause_s, max(PAUSE_S, self._lease.stop_at_s - now_s()))
        return pause_s

    def _send_log(self) -> None:
        self._is_behind = False
        self._is_behind = self._log.send()

    def _heed_failure(self) -> None:
        if self._outbox.failure is not None:
            loop.request_stop(checkpoint=False)

    def _guard(self, task: Callable[..., object], *arguments: object) -> None:
        """Do one task; whatever it raises must not end the others: stops, log, heartbeat."""
        try:
            task(*arguments)
        except OSError:
            pass  # the spool is full: the outbox knows, and the run ends
        except Exception:
            if task not in self._failed:  # into log.txt, once
                self._failed.append(task)
                traceback.print_exc()

    def _read_commands(self) -> None:
        try:
            size = self._folder.control.stat().st_size
        except OSError:
            return
        if size <= self._control_offset:
            return
        with self._folder.control.open("rb") as file:
            file.seek(self._control_offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._control_offset += len(whole)
        for line in whole.splitlines():
            try:
                self._execute(json.loads(line))
            except (ValueError, AttributeError):
                continue  # a torn line of a server that was killed; the next server sends it again

    def _execute(self, command: dict[str, object]) -> None:
        is_ours = command.get("attempt") == self._outbox.attempt
        if is_ours and command.get("command") == "stop":
            self.stop_checkpoint = bool(command.get("checkpoint", True))
            loop.request_stop(checkpoint=self.stop_checkpoint)
        elif is_ours and command.get("command") == "checkpoint":
            loop.request_checkpoint()

    def _touch_heartbeat(self) -> None:
        """Touch the heartbeat file while the run makes progress: a hung one stops doing so."""
        count = loop.activity_count()
        if count != self._activity:
            self._activity = count
            with contextlib.suppress(OSError):
                self._folder.heartbeat(self._outbox.attempt).touch()

    def _heed_lease(self) -> None:
        """End when the lease is over: the agent, which renews it and would see to this, is dead."""
        if self._lease_file is None or now_s() < self._lease.stop_at_s:
            return
        # what was read last is over; the file may have been renewed since, and one that cannot be read now
        # can be in a while
        self._lease = Lease.read(self._lease_file) or Lease(now_s() + _PROGRESS_S, math.inf)
        if now_s() >= self._lease.kill_at_s:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        elif now_s() >= self._lease.stop_at_s and not self._is_lease_over:
            self._is_lease_over = True
            os.kill(os.getpid(), signal.SIGTERM)

    def _heed_keeper(self) -> None:
        """Die with the process that keeps this one: whoever ended it does not know of trainers."""
        if self._has_keeper and (self._keeper is None or not is_alive(self._keeper)):
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def _send_usage(self, now: float) -> None:
        if self._speed is None or not self._usage_interval_s:
            return  # before it trains it has no step
        step = loop.get_global_step()
        if self._usage is None:
            self._usage = Usage(self._usage_interval_s, self._device, now, self._start_step)
        elif 0 <= step <= _INT64_MAX and (read := self._usage.read(now, step)):
            self._outbox.send(events.encode_metrics(self._outbox.attempt, time.time_ns(), read))

    def _send_progress(self, now: float) -> None:
        if self._speed is None:
            return
        step = loop.get_global_step()
        speed = self._speed.read(now, step)
        if (step, speed) == self._sent or not 0 <= step <= _INT64_MAX:
            return
        self._sent = step, speed
        total_steps = loop.total_steps() or 0
        if not 0 <= total_steps <= _INT64_MAX:
            total_steps = 0  # unknown: the event has 64 bits
        progress = events.encode_progress(
            self._outbox.attempt, time.time_ns(), step, total_steps, speed
        )
        self._outbox.send([progress], is_urgent=False)
