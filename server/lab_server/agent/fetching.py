"""A run's files on their way from the server to an agent, before an attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from lab_server.agent.link import Cut, Link
from lab_server.errors import DamagedFile
from lab_server.files.arriving import num_arrived, receive
from lab_server.files.pieces import Piece
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey

_log = structlog.get_logger("lab_agent")

_RETRY_S = 1.0


class Fetching:
    """Fetches a run's files once; what was cut off goes on where it was, if the server has the same files still.

    Args:
        link: to the server.
        key: of the attempt.
        folder: the run's, here.
    """

    def __init__(self, link: Link, key: AttemptKey, folder: RunFolder) -> None:
        self._link = link
        self._key = key
        self._folder = folder
        self._etag = ""
        self._whole, self._partial = "", ""  # the last file that came whole, and the one behind it

    async def run(self) -> None:
        """Have the files as the server has them, and no others.

        Raises:
            DamagedFile: If one arrives as another than was announced.
            OSError: If this disk takes no more.
            Refused: If the attempt is over, for the server.
        """
        while True:
            is_first = not self._etag
            try:
                # not synced: after a power cut the attempt is over
                async with aclosing(self._pieces()) as pieces:
                    await receive(pieces, self._folder.path, is_synced=False)
            except Cut as error:
                _log.warning("fetching files was cut; trying again", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            except DamagedFile:
                if is_first:
                    raise
                self._etag, self._whole, self._partial = "", "", ""
            else:
                return

    async def _pieces(self) -> AsyncGenerator[Piece]:
        offset = num_arrived(self._folder.path / self._partial) if self._partial else 0
        async for got in self._link.fetch(self._key, self._etag, self._whole, offset):
            if got.etag:
                await self._begin(got.etag)
                continue
            self._partial = got.path or self._partial
            yield Piece(got.data, got.path, got.size_bytes, got.offset, got.sha256)
            if got.sha256:
                self._whole, self._partial = self._partial, ""

    async def _begin(self, etag: str) -> None:
        """Remove what is here, unless it is of the same state of the server's files."""
        if etag != self._etag:
            await asyncio.to_thread(self._folder.clear_files)
            self._whole, self._partial = "", ""
        self._etag = etag
