"""Sends what a run prints: new lines of its log.txt as events, with their levels."""

from __future__ import annotations

import contextlib
import os
import time

from lab_server.files.log_levels import LogLevels
from lab_server.files.log_sent import LogSent
from lab_server.files.run_folder import RunFolder
from lab_server.messages import events
from lab_server.model.log_level import LogLine
from lab_server.trainer import output
from lab_server.trainer.outbox import Outbox

_CHUNK_BYTES = 256 << 10
_TAIL_BYTES = 4 << 20  # so much of what was printed last is sent after the end


class LogSender:
    """Reads the log from an offset on; a line is sent when it is whole, or very long."""

    def __init__(self, folder: RunFolder, outbox: Outbox, offset: int) -> None:
        self._folder = folder
        self._outbox = outbox
        self._offset = offset
        self._line = b""  # the beginning of a line, read already
        self._position = folder.log_position(outbox.attempt)
        self._save_position()

    def send(self) -> bool:
        """Send the next lines of the log; return whether there may be more.

        Raises:
            OSError: If the spool takes no more.
        """
        try:
            with output.lock:  # so that the levels of all that is there are known
                size = self._folder.log.stat().st_size
        except OSError:
            return False
        if size <= self._offset:
            return False
        with self._folder.log.open("rb") as file:
            data = os.pread(file.fileno(), min(_CHUNK_BYTES, size - self._offset), self._offset)
        begin = self._offset - len(self._line)
        self._offset += len(data)
        data = self._line + data
        whole = data[: data.rfind(b"\n") + 1]
        self._line = data[len(whole) :]
        if len(self._line) > events.MAX_LINE_CHARS:
            whole, self._line = data, b""
        self._send(whole, begin)
        return self._offset < size

    def send_rest(self) -> None:
        """Send all that is left, but for the middle of very much.

        Raises:
            OSError: If the spool takes no more.
        """
        with contextlib.suppress(FileNotFoundError):
            skipped = self._folder.log.stat().st_size - _TAIL_BYTES - self._offset
            if skipped > 0:
                self._offset += skipped
                self._line = b""
                self._send_lines([LogLine(f"[{skipped} bytes of log.txt are left out here]")])
        while self.send():
            pass
        if self._line:
            line, self._line = self._line, b""
            self._send(line, self._offset - len(line))

    def _send(self, data: bytes, begin: int) -> None:
        if data:
            levels = LogLevels(self._folder.log_levels, begin, begin + len(data))
            self._send_lines(levels.lines(data, begin))

    def _send_lines(self, lines: list[LogLine]) -> None:
        self._outbox.send(events.encode_lines(self._outbox.attempt, time.time_ns(), lines))
        self._save_position()

    def _save_position(self) -> None:
        """Record how much was sent, so that the server can add the rest when the trainer is killed."""
        sent = LogSent(self._offset - len(self._line), self._outbox.spool_end)
        with contextlib.suppress(OSError):
            sent.write(self._position)
