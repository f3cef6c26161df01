"""TensorBoards that run: each a process for some runs, begun when asked for, ended when nobody looks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from lab_server.api.errors import Refused

IDLE_S: Final = 600.0
MAX_BOARDS: Final = 4
_START_S: Final = 120.0
_END_S: Final = 5.0

_log = structlog.get_logger("lab_server.pages")


@dataclass(slots=True)
class Board:
    """A TensorBoard that runs.

    Attributes:
        key: of its address, /tensorboard/KEY/; the same for the same runs.
        folder: its own; has the socket and links to the runs' folders.
        client: to its socket.
    """

    key: str
    folder: Path
    process: asyncio.subprocess.Process
    client: aiohttp.ClientSession
    last_use_s: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def touch(self) -> None:
        """Note that somebody looks at it."""
        self.last_use_s = asyncio.get_running_loop().time()


class Boards:
    """Starts and ends them; the one that nobody has looked at for longest makes room for another.

    Args:
        idle_s: seconds without a request after which one ends.
        max_boards: how many there may be at a time.
    """

    def __init__(self, *, idle_s: float = IDLE_S, max_boards: int = MAX_BOARDS) -> None:
        self._idle_s = idle_s
        self._max_boards = max_boards
        self._boards: dict[str, Board] = {}
        # Guards starting and ending: two browsers that ask for the same runs get the same process.
        self._lock = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None

    def get(self, key: str) -> Board | None:
        """Return the one with a key, if it runs."""
        board = self._boards.get(key)
        if board is None or board.process.returncode is not None:
            return None
        board.touch()
        return board

    async def open(self, folders: Mapping[str, Path]) -> Board:
        """Return the one of some runs.

        Args:
            folders: where each run's event files are, by the name that TensorBoard shows.

        Raises:
            Refused: If TensorBoard is not installed, or does not start.
        """
        if importlib.util.find_spec("tensorboard") is None:
            raise Refused(
                409,
                "NO_TENSORBOARD",
                "TensorBoard is not installed where the server runs; an administrator can install it with"
                " pip install 'lab-train[core]'",
            )
        names = "\0".join(f"{name}\0{path}" for name, path in sorted(folders.items()))
        key = hashlib.sha256(os.fsencode(names)).hexdigest()[:16]
        async with self._lock:
            if board := self.get(key):
                return board
            if key in self._boards:  # it died
                await self._end(self._boards[key])
            while len(self._boards) >= self._max_boards:
                await self._end(min(self._boards.values(), key=lambda b: b.last_use_s))
            board = self._boards[key] = await _start(key, folders)
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._end_idle())
        return board

    async def close(self, _app: object = None) -> None:
        """End all of them."""
        if self._reaper is not None:
            self._reaper.cancel()
        async with self._lock:
            for board in tuple(self._boards.values()):
                await self._end(board)

    async def _end_idle(self) -> None:
        while True:
            await asyncio.sleep(self._idle_s / 10)
            oldest = asyncio.get_running_loop().time() - self._idle_s
            async with self._lock:
                for board in tuple(self._boards.values()):
                    if board.last_use_s <= oldest:
                        await self._end(board)

    async def _end(self, board: Board) -> None:
        del self._boards[board.key]
        await board.client.close()
        await _stop(board.process)
        await asyncio.to_thread(shutil.rmtree, board.folder, ignore_errors=True)
        _log.info("ended a TensorBoard", key=board.key)


async def _start(key: str, folders: Mapping[str, Path]) -> Board:
    folder = await asyncio.to_thread(_links, folders)
    address = str(folder / "socket")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lab_server.pages.tensorboard_child"),
        *(address, str(folder / "runs"), f"/tensorboard/{key}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # where TensorBoard notes what runs; by default a folder that everybody can read
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout is not None
    line = b""
    try:
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), _START_S)
    finally:
        if line != b"ready\n":
            await _stop(process)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if line != b"ready\n":
        raise Refused(503, "NO_TENSORBOARD", "TensorBoard did not start; try again")
    _log.info("started a TensorBoard", key=key, runs=len(folders), pid=process.pid)
    connector = aiohttp.UnixConnector(address)
    return Board(
        key, folder, process, aiohttp.ClientSession(connector=connector, auto_decompress=False)
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _END_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _links(folders: Mapping[str, Path]) -> Path:
    """Return a new folder that only this user can read, with a link to each run's event files."""
    folder = Path(tempfile.mkdtemp(prefix="lab-tensorboard-"))
    (folder / "runs").mkdir()
    for name, path in folders.items():
        (folder / "runs" / name).symlink_to(path)
    return folder
