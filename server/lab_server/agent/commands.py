"""Commands for a trainer on this machine: each written to its control file once, as soon as the disk takes it."""

from __future__ import annotations

import asyncio

import structlog

from lab_server.files.run_folder import RunFolder

_log = structlog.get_logger("lab_agent")

_RETRY_S = 1.0


class Commands:
    """The commands of one attempt. The agent's loop owns it."""

    def __init__(self, folder: RunFolder, attempt: int) -> None:
        self._folder = folder
        self._attempt = attempt
        self._waiting: list[str] = []
        self._is_open = False
        self._writing_again: asyncio.TimerHandle | None = None

    def add(self, line: str) -> None:
        """Have a line in the control file, unless it is there."""
        if line not in self._waiting:
            self._waiting.append(line)
        self._write()

    def open(self) -> None:
        """Begin to write: the folder is this attempt's, and no earlier one's any more."""
        self._is_open = True
        self._write()

    def drop(self) -> None:
        """Forget what is not written yet."""
        self._waiting.clear()

    def _write(self) -> None:
        if not self._is_open:
            return
        try:
            while self._waiting:
                if self._waiting[0] not in self._folder.commands(self._attempt):
                    self._folder.make()
                    with self._folder.control.open("a") as control:
                        control.write(self._waiting[0] + "\n")
                del self._waiting[0]
        except OSError as error:
            _log.error("cannot pass a command on; trying again", reason=error.strerror)
            if self._writing_again is not None:
                self._writing_again.cancel()
            loop = asyncio.get_running_loop()
            self._writing_again = loop.call_later(_RETRY_S, self._write)
