"""What a run printed, from its file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lab_server.files import artifacts
from lab_server.files.log_levels import LogLevels
from lab_server.files.run_folder import RunFolder
from lab_server.model.log_level import LogLevel, LogLine
from lab_server.rpc.files_of_runs import FilesOfRuns
from lab_server.rpc.run_lookup import find_run
from lab_server.supervisor.protocol import RunControl


@dataclass(frozen=True, slots=True)
class LogPart:
    """Some of a log.

    Attributes:
        text: whole lines, unless a line is longer than what was asked for.
        levels: for each line of the text its level.
        offset: where it begins, in bytes.
        next_offset: where to go on.
        size_bytes: of the whole log.
    """

    text: str
    offset: int
    next_offset: int
    size_bytes: int
    levels: tuple[LogLevel, ...] = ()

    @property
    def lines(self) -> list[LogLine]:
        """The lines of the text."""
        texts = self.text.removesuffix("\n").split("\n") if self.text else []
        return [LogLine(text, level) for text, level in zip(texts, self.levels, strict=True)]


class Logs:
    """Reads the logs of runs."""

    def __init__(self, supervisor: RunControl, files: FilesOfRuns) -> None:
        self._supervisor = supervisor
        self._files = files

    async def folder(self, run_id: str, *under: str) -> RunFolder:
        """Return a folder of this server that has a run's files below some paths.

        Raises:
            InvalidRequest: If the id is empty.
            NotFound: If there is no such run.
            Unavailable: If the server that has the files is away.
        """
        run = await find_run(self._supervisor, run_id)
        return await self._files.folder(run, under)

    async def read(self, run_id: str, offset: int, max_bytes: int) -> LogPart:
        """Return a part of a run's log; a negative offset counts from the end.

        Raises:
            InvalidRequest: If the id is empty.
            NotFound: If there is no such run.
        """
        folder = await self.folder(run_id, "log.")
        size, data = await artifacts.read_part(folder.path, folder.log.name, offset, max_bytes)
        start = min(size, max(0, size + offset) if offset < 0 else offset)
        if offset < 0 and start > 0 and b"\n" in data:
            # from the end: not the rest of a line
            rest = data.index(b"\n") + 1
            start, data = start + rest, data[rest:]
        if b"\n" in data:
            data = data[: data.rindex(b"\n") + 1]
        end = start + len(data)
        levels = await asyncio.to_thread(LogLevels, folder.log_levels, start, end)
        kinds = tuple(line.level for line in levels.lines(data, start))
        return LogPart(data.decode("utf-8", "replace"), start, end, size, kinds)

    async def read_file(self, run_id: str, path: str, max_bytes: int) -> str:
        """Return the beginning of a file of a run as text, "" when there is none.

        Raises:
            InvalidRequest: If the id is empty.
            NotFound: If there is no such run.
        """
        folder = await self.folder(run_id, path)
        size, data = await artifacts.read_part(folder.path, path, 0, max_bytes)
        cut = f"\n... and {size - max_bytes} bytes more" if size > max_bytes else ""
        return data.decode("utf-8", "replace") + cut
