"""Generations of code that clients sent: one for each upload, so that none sees another's modules."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from lab_server.errors import LaunchError
from lab_server.executors.current_generation import CurrentGeneration
from lab_server.executors.forkserver_client import ForkServerClient
from lab_server.files.uploads import UploadStore
from lab_server.model.generation import GenerationSpec
from lab_server.model.upload import Upload

NO_UPLOADS = "this server takes no code from clients any more"

_MAX_IDLE = 8
_LOAD_TIMEOUT_S = 60


class UploadGenerations:
    """Keeps a generation for each upload that was used lately.

    Args:
        forkserver: forks generations.
        store: has the uploads' files; None if the server takes no code from clients.
        on_exit: called with pid and wait status when a trainer has ended.
    """

    def __init__(
        self,
        forkserver: ForkServerClient,
        store: UploadStore | None,
        on_exit: Callable[[int, int], None],
    ) -> None:
        self._forkserver = forkserver
        self._store = store
        self._on_exit = on_exit
        self._generations: dict[str, CurrentGeneration] = {}  # the one that was used last is last
        self._num_users: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def of(self, upload: Upload) -> AsyncIterator[CurrentGeneration]:
        """Give the generation of an upload; it stays while the context is open.

        Raises:
            LaunchError: If the server takes no code from clients.
            NotFound: If the upload's files are gone, or not as they were sent.
        """
        if self._store is None:
            raise LaunchError(NO_UPLOADS)
        await asyncio.to_thread(self._store.check, upload)
        generation = self._generations.pop(upload.id, None)
        if generation is None:
            folder = str(self._store.files_of(upload))
            generation = CurrentGeneration(
                self._forkserver,
                GenerationSpec((upload.module,), False, _LOAD_TIMEOUT_S, folder),
                is_watching=False,  # its content is its name
                on_exit=self._on_exit,
            )
        self._generations[upload.id] = generation
        self._num_users[upload.id] += 1
        try:
            yield generation
        finally:
            self._num_users[upload.id] -= 1
            await self._end_oldest()

    async def close(self) -> None:
        """Let all of them end; trainers go on."""
        for generation in self._generations.values():
            await generation.close()

    async def _end_oldest(self) -> None:
        self._num_users = +self._num_users  # without those that are 0
        idle = [id_ for id_ in self._generations if not self._num_users[id_]]
        for upload_id in idle[: max(0, len(idle) - _MAX_IDLE)]:
            await self._generations.pop(upload_id).close()
