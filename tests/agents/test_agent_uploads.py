"""Code that a client sent, on its way to an agent: whole there, or not there, and who may have it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab_rpc.v1 import agent_service_pb2 as pb
from lab_server.agent.home import Identity
from lab_server.agent.link import Cut, Link
from lab_server.agent.uploads import AgentUploads
from lab_server.errors import LaunchError
from lab_server.files.upload_draft import UploadDraft
from lab_server.files.uploads import UploadStore
from lab_server.model.agent import AttemptKey
from lab_server.model.upload import Upload
from lab_server.model.upload_manifest import Manifest, ManifestFile
from tests.agents.conftest import Desk
from tests.agents.test_agent_service import code_of
from tests.agents.test_registry import KEY, Side, spec_of

FILES = {"sine.py": b"x = 1\n", "data/table.bin": bytes(range(256)) * 12_000, "empty.txt": b""}


def sent(store: UploadStore, files: dict[str, bytes]) -> Upload:
    """Have an upload sent by somebody."""
    manifest = Manifest(
        "sine",
        tuple(ManifestFile(p, len(d), hashlib.sha256(d).hexdigest()) for p, d in files.items()),
    )
    with UploadDraft(store, manifest) as draft:
        for data in files.values():
            draft.write(data)
        return draft.finish("olga")


class CuttableLink(Link):
    """Counts what is fetched, and cuts it as often as it is told to.

    Attributes:
        num_fetched: how often a fetch began.
        num_cuts: how many of the next fetches are cut behind their first bytes.
    """

    num_fetched = 0
    num_cuts = 0

    async def fetch_upload(
        self, key: AttemptKey, upload_id: str
    ) -> AsyncGenerator[pb.FetchUploadResponse]:
        self.num_fetched += 1
        async for answer in super().fetch_upload(key, upload_id):
            yield answer
            if answer.data and self.num_cuts:
                self.num_cuts -= 1
                raise Cut("by the test")


@dataclass
class Rig:
    """An attempt on an agent, of a run that uses an upload; `of_server` and `here` are the two stores."""

    of_server: UploadStore
    here: UploadStore
    upload: Upload
    link: CuttableLink
    uploads: AgentUploads
    folder: Path

    async def get(self) -> None:
        """Have the upload on the agent."""
        await self.uploads.get(KEY, self.upload, self.folder)

    def found(self) -> dict[str, bytes]:
        """Return what the agent has."""
        files = self.here.files_of(self.upload)
        return {
            str(path.relative_to(files)): path.read_bytes()
            for path in files.rglob("*")
            if path.is_file()
        }

    def drafts(self) -> list[Path]:
        """Return what is left of transfers that did not end well."""
        return list(self.here.folder.glob("draft-*"))


@pytest.fixture
async def rig(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("lab_server.agent.uploads._RETRY_S", 0.0)
    metadata = await desk.joined()
    _, _, secret = metadata[0][1].removeprefix("Bearer lab_").partition("_")
    credential_id = metadata[0][1].removeprefix("Bearer lab_").partition("_")[0]
    link = CuttableLink(Identity("a1", "gpus", secret, credential_id))
    link.attached(desk.stub)
    upload = sent(desk.uploads, FILES)
    run = tmp_path / "r1"
    side = Side(desk.agents)
    launching = asyncio.create_task(desk.agents.launch(spec_of(run, upload=upload)))
    await asyncio.sleep(0)
    desk.uploads.note_run(upload, "r1", run)
    here = UploadStore(tmp_path / "agent" / "uploads")
    folder = tmp_path / "agent" / "runs" / "r1"
    folder.mkdir(parents=True)
    yield Rig(desk.uploads, here, upload, link, AgentUploads(link, here), folder)
    side.agents.close()
    launching.cancel()


async def test_code_is_fetched_once_and_kept_while_a_run_has_its_folder(rig: Rig) -> None:
    await asyncio.gather(rig.get(), rig.get())
    await rig.get()
    assert (rig.found(), rig.link.num_fetched) == (FILES, 1)
    record = rig.here.folder / rig.upload.id / "upload.json"
    old = time.time() - 2 * 86400
    os.utime(record, (old, old))
    assert rig.here.prune() == []
    rig.folder.rmdir()
    assert rig.here.prune() == [rig.upload.id]


async def test_what_is_cut_off_is_fetched_again_and_nothing_is_left_over(rig: Rig) -> None:
    rig.link.num_cuts = 2
    await rig.get()
    assert (rig.found(), rig.link.num_fetched, rig.drafts()) == (FILES, 3, [])


@pytest.mark.parametrize("how", ["changed", "removed"])
async def test_code_that_is_damaged_on_an_agent_is_fetched_anew(rig: Rig, how: str) -> None:
    await rig.get()
    file = rig.here.files_of(rig.upload) / "sine.py"
    if how == "changed":
        file.write_bytes(b"x = 2\n")
    else:
        file.unlink()
    await rig.get()
    assert (rig.found(), rig.link.num_fetched) == (FILES, 2)
    assert rig.here.is_of(rig.upload, "r1")


async def test_what_code_wrote_beside_itself_does_not_travel_nor_count_as_damage(rig: Rig) -> None:
    (rig.of_server.files_of(rig.upload) / "out.txt").write_text("of a run")
    await rig.get()
    assert rig.found() == FILES
    (rig.here.files_of(rig.upload) / "out.txt").write_text("of a run")
    await rig.get()
    assert rig.link.num_fetched == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("changed", "has its code no more as it was sent: .*'sine.py' has another content"),
        ("shortened", "has its code no more as it was sent"),
        ("removed", "cannot have its code: .*its files are gone; send the code again"),
        ("renamed", "has its code no more as it was sent: .*is that of upload"),
        ("gone", "cannot have its code: .*does not use it"),
    ],
)
async def test_code_that_the_server_has_no_more_is_told_and_nothing_is_kept(
    rig: Rig, how: str, reason: str
) -> None:
    folder = rig.of_server.folder / rig.upload.id
    file = folder / "files" / "sine.py"
    match how:
        case "changed":
            file.write_bytes(b"x = 2\n")
        case "shortened":
            file.write_bytes(b"x")
        case "removed":
            file.unlink()
        case "renamed":
            record = folder / "upload.json"
            record.write_text(record.read_text().replace("data/table.bin", "table.bin"))
        case "gone":
            folder.rename(rig.of_server.folder / "elsewhere")
    with pytest.raises(LaunchError, match=reason):
        await rig.get()
    assert not rig.here.is_whole(rig.upload)
    assert rig.drafts() == []


async def test_code_that_was_damaged_is_whole_when_it_is_sent_again(rig: Rig) -> None:
    (rig.of_server.files_of(rig.upload) / "sine.py").write_bytes(b"x = 2\n")
    assert sent(rig.of_server, FILES) == rig.upload
    await rig.get()
    assert rig.found() == FILES


async def test_a_full_disk_is_told_and_there_is_no_half_of_the_code(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_draft: UploadDraft, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(UploadDraft, "write", write)
        with pytest.raises(OSError, match="No space left"):
            await rig.get()
    assert rig.drafts() == []
    await rig.get()
    assert rig.found() == FILES


async def test_an_agent_that_runs_no_code_of_clients_fetches_none(rig: Rig) -> None:
    with pytest.raises(LaunchError, match="its agent runs no code that clients send"):
        await AgentUploads(rig.link, None).get(KEY, rig.upload, rig.folder)
    assert rig.link.num_fetched == 0


async def test_an_agent_gets_the_code_of_its_own_attempts_runs_only(rig: Rig, desk: Desk) -> None:
    other = sent(desk.uploads, {"sine.py": b"y = 1\n"})
    mine, others = rig.link.metadata, await desk.joined("a2", "other")

    async def asked(upload_id: str, metadata: Any, attempt: int = 1) -> str:
        request = pb.FetchUploadRequest(
            key=pb.AttemptKey(run_id="r1", attempt=attempt), upload_id=upload_id
        )
        call = desk.stub.FetchUpload(request, metadata=metadata)
        return await code_of(call.read())

    assert await asked(rig.upload.id, mine) == "OK"
    assert await asked(rig.upload.id, others) == "PERMISSION_DENIED"
    assert await asked(rig.upload.id, mine, attempt=2) == "FAILED_PRECONDITION"
    assert await asked(other.id, mine) == "NOT_FOUND"
    assert await asked("../../secret", mine) == "NOT_FOUND"


async def test_a_server_that_takes_no_code_any_more_gives_agents_none(rig: Rig, desk: Desk) -> None:
    desk.service._uploads = None
    with pytest.raises(LaunchError, match="takes no code from clients any more"):
        await rig.get()
