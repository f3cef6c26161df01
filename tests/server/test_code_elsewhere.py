"""Code that a client sent to another server: it is looked for on all of them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from lab_server.errors import Unavailable
from lab_server.files.home import Home
from lab_server.files.upload_draft import UploadDraft
from lab_server.model.run import Run, RunRequest
from lab_server.model.upload import Upload
from lab_server.model.upload_manifest import Manifest, ManifestFile
from lab_server.rpc.calls.handlers import PEER, handlers
from lab_server.rpc.code_elsewhere import CodeElsewhere
from lab_server.rpc.other_servers import OtherServers
from lab_server.rpc.peers import PeerService
from lab_server.rpc.server import interceptor
from lab_server.security.host_tokens import HostTokens
from lab_server.store.databases.members import Member
from tests.memory_store import MemoryStore

CODE = b"VALUE = 7\n"


class Rig:
    """Some servers, and one that asks them."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._tokens = HostTokens(b"secret")
        self.members: list[Member] = []
        self.home = Home(folder / "here")
        (folder / "here").mkdir()

    async def add(self, name: str, *, has_code: bool, is_live: bool = True) -> None:
        path = self._folder / name
        path.mkdir()
        if has_code:
            send(Home(path))
        server = grpc.aio.server(interceptors=[interceptor(CollectorRegistry())])
        service = PeerService(path, MemoryStore(), self._tokens)
        server.add_generic_rpc_handlers((handlers(PEER, service),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        self.members.append(Member(Home(path).server_id(), f"127.0.0.1:{port}", is_live))

    async def bring(self) -> bool:
        async def members() -> list[Member]:
            return self.members

        code = CodeElsewhere(self.home, OtherServers(members, self._tokens, None))
        await code.bring(Run("r1", RunRequest("counting", upload=UPLOAD)))
        return self.home.uploads.is_whole(UPLOAD)


FILE = ManifestFile("counting.py", len(CODE), hashlib.sha256(CODE).hexdigest())
MANIFEST = Manifest("counting", (FILE,))
UPLOAD = Upload(MANIFEST.upload_id, "counting")


def send(home: Home) -> None:
    with UploadDraft(home.uploads, MANIFEST) as draft:
        draft.write(CODE)
        assert draft.finish("ada") == UPLOAD


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield Rig(tmp_path, stack)


async def test_servers_that_do_not_have_it_are_passed_over(rig: Rig) -> None:
    await rig.add("a", has_code=False)
    await rig.add("b", has_code=True)
    assert await rig.bring()
    assert rig.home.uploads.owners_of(UPLOAD) == ["ada"]


async def test_one_that_has_it_damaged_is_passed_over(rig: Rig) -> None:
    await rig.add("a", has_code=True)
    (
        rig.home.uploads.folder.parent.parent / "a" / "uploads" / UPLOAD.id / "files" / FILE.path
    ).write_bytes(b"")
    await rig.add("b", has_code=True)
    assert await rig.bring()


async def test_where_none_has_it_nothing_is_done_unless_one_is_away(rig: Rig) -> None:
    await rig.add("a", has_code=False)
    assert not await rig.bring()
    await rig.add("b", has_code=False, is_live=False)
    with pytest.raises(Unavailable, match=rf"{rig.members[1].address}, which is away"):
        await rig.bring()
