"""The code that clients sent, on an agent: fetched before the first attempt that runs it, and checked before each."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from lab_core.errors import Violation
from lab_server.agent.link import Cut, Link, Refused
from lab_server.errors import InvalidRequest, LaunchError
from lab_server.files.upload_draft import UploadDraft
from lab_server.files.uploads import UploadStore
from lab_server.messages.uploads import manifest_from_proto
from lab_server.model.agent import AttemptKey
from lab_server.model.upload import Upload

_log = structlog.get_logger("lab_agent")

_RETRY_S = 1.0
_PRUNE_S = 600.0
_SERVER = "the server"


class AgentUploads:
    """Keeps the code that the attempts of this agent run. The agent's loop owns it.

    Args:
        store: where it is kept; None if this agent runs no code that clients send.
    """

    def __init__(self, link: Link, store: UploadStore | None) -> None:
        self._link = link
        self._store = store
        # guards the upload of each id while it is fetched
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def are_taken(self) -> bool:
        """Whether this agent runs code that clients sent."""
        return self._store is not None

    async def get(self, key: AttemptKey, upload: Upload, folder: Path) -> None:
        """Have an upload here, whole, for as long as the folder of the attempt's run is.

        Raises:
            LaunchError: If this agent runs none, or the server has it no more, or not as it was sent.
            OSError: If this disk takes no more.
            Refused: If the attempt is over, for the server.
        """
        store = self._store
        if store is None:
            raise LaunchError("its agent runs no code that clients send")
        lock = self._locks.setdefault(upload.id, asyncio.Lock())
        async with lock:
            if not await asyncio.to_thread(store.is_whole, upload):
                await self._fetch(store, key, upload)
            await asyncio.to_thread(store.note_run, upload, key.run_id, folder)

    async def prune(self) -> None:
        """Remove what no attempt here has used for a day, every ten minutes."""
        while self._store is not None:
            removed = await asyncio.to_thread(self._store.prune)
            if removed:
                _log.info("removed code that no run uses", uploads=removed)
            await asyncio.sleep(_PRUNE_S)

    async def _fetch(self, store: UploadStore, key: AttemptKey, upload: Upload) -> None:
        while True:
            try:
                await self._fetch_once(store, key, upload)
            except Cut as error:
                _log.warning("fetching code was cut; trying again", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            except Refused as error:
                if await self._link.is_over(key):
                    raise
                raise LaunchError(f"its agent cannot have its code: {error}") from error
            except InvalidRequest as error:
                raise LaunchError(
                    f"the server has its code no more as it was sent: {error}"
                ) from error
            else:
                _log.info("fetched code that a client sent", upload=upload.id)
                return

    async def _fetch_once(self, store: UploadStore, key: AttemptKey, upload: Upload) -> None:
        async with aclosing(self._link.fetch_upload(key, upload.id)) as parts:
            first = await anext(parts)
            manifest = manifest_from_proto(first.manifest)
            problems = manifest.problems()
            if manifest.upload_id != upload.id:
                problems.append(Violation("manifest", f"it is that of upload {manifest.upload_id}"))
            if problems:
                raise InvalidRequest(problems)
            with UploadDraft(store, manifest) as draft:
                async for part in parts:
                    await asyncio.to_thread(draft.write, part.data)
                await asyncio.to_thread(draft.finish, _SERVER)
