"""A run's files on their way to an agent: what was cut off goes on, unless the server has others by then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lab_server.agent.fetching import Fetching
from lab_server.agent.home import Identity
from lab_server.agent.link import Cut, Link
from lab_server.errors import DamagedFile
from lab_server.files.run_folder import RunFolder
from lab_server.model.agent import AttemptKey
from tests.agents.conftest import Desk
from tests.agents.test_registry import KEY, Side, spec_of

MIB = 1 << 20
FILES = {"a.txt": b"first", "b.pt": bytes(range(256)) * 12_000, "c.txt": b"", "d/e.pt": b"x" * MIB}


class CuttableLink(Link):
    """Counts the bytes that come, and cuts them off behind some.

    Attributes:
        num_bytes: how many came.
        cuts: behind how many bytes each of the next fetches is cut.
        damages: whether what comes is changed.
    """

    num_bytes = 0
    cuts: tuple[int, ...] = ()
    damages = False

    async def fetch(
        self, key: AttemptKey, etag: str = "", after_path: str = "", offset: int = 0
    ) -> AsyncIterator[Any]:
        num_bytes = 0
        async for answer in super().fetch(key, etag, after_path, offset):
            if self.damages:
                answer.data = bytes(len(answer.data))
            yield answer
            self.num_bytes += len(answer.data)
            num_bytes += len(answer.data)
            if self.cuts and num_bytes > self.cuts[0]:
                self.cuts = self.cuts[1:]
                raise Cut("by the test")


class Rig:
    """An attempt's folder on the server, and one on the agent."""

    def __init__(self, link: CuttableLink, there: Path, here: RunFolder) -> None:
        self.link, self.there, self.here = link, there, here
        self.fetching = Fetching(link, KEY, here)
        self.write(FILES)

    def write(self, files: dict[str, bytes]) -> None:
        for path, data in files.items():
            (self.there / path).parent.mkdir(parents=True, exist_ok=True)
            (self.there / path).write_bytes(data)

    def found(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.here.path)): path.read_bytes()
            for path in self.here.path.rglob("*")
            if path.is_file()
        }


@pytest.fixture
async def rig(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("lab_server.agent.fetching._RETRY_S", 0.0)
    metadata = await desk.joined()
    credential_id, _, secret = metadata[0][1].removeprefix("Bearer lab_").partition("_")
    link = CuttableLink(Identity("a1", "gpus", secret, credential_id))
    link.attached(desk.stub)
    side = Side(desk.agents)
    launching = asyncio.create_task(desk.agents.launch(spec_of(tmp_path / "r1")))
    await asyncio.sleep(0)
    here = RunFolder(tmp_path / "agent" / "r1")
    here.make()
    yield Rig(link, tmp_path / "r1", here)
    side.agents.close()
    launching.cancel()


async def test_an_agent_has_the_servers_files_and_no_others(rig: Rig) -> None:
    (rig.here.path / "old").mkdir()
    (rig.here.path / "old" / "file").write_text("of an attempt before")
    await rig.fetching.run()
    assert rig.found() == FILES
    await asyncio.to_thread(rig.here.path.joinpath("a.txt").unlink)
    for path in FILES:
        (rig.there / path).unlink()
    await Fetching(rig.link, KEY, rig.here).run()
    assert rig.found() == {}, "nor where the server has none"


async def test_what_was_cut_off_goes_on_where_it_was(rig: Rig) -> None:
    rig.link.cuts = (0, MIB, MIB // 2, MIB)
    await rig.fetching.run()
    assert rig.found() == FILES
    assert rig.link.num_bytes == sum(map(len, FILES.values())), "no byte comes twice"
    assert not rig.link.cuts, "each cut came"


async def test_a_cut_behind_the_last_byte_loses_no_file(rig: Rig) -> None:
    rig.link.cuts = (sum(map(len, FILES.values())) - 1,)
    await rig.fetching.run()
    assert rig.found() == FILES
    assert rig.link.num_bytes == sum(map(len, FILES.values())), "no byte comes twice"
    assert not rig.link.cuts, "the cut came"


async def test_from_a_server_with_other_files_all_of_them_come(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.link.cuts = (MIB, 0)  # the second in the first of the others
    other = {"a.txt": b"another" * MIB, "b.pt": FILES["b.pt"][::-1] + b"longer"}

    async def take_over(_pause_s: float) -> None:
        for path in FILES:
            (rig.there / path).unlink(missing_ok=True)
        rig.write(other)

    monkeypatch.setattr("lab_server.agent.fetching.asyncio.sleep", take_over)
    await rig.fetching.run()
    assert rig.found() == other


async def test_a_file_that_changed_while_it_was_cut_off_comes_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.link.cuts = (MIB,)
    changed = FILES | {"b.pt": FILES["b.pt"][::-1]}

    async def change(_pause_s: float) -> None:
        rig.write(changed)

    monkeypatch.setattr("lab_server.agent.fetching.asyncio.sleep", change)
    await rig.fetching.run()
    assert rig.found() == changed


async def test_a_file_that_arrives_damaged_is_told(rig: Rig) -> None:
    rig.link.damages = True
    with pytest.raises(DamagedFile, match=r"'a.txt' has another content"):
        await rig.fetching.run()


async def test_a_file_that_changed_behind_a_cut_and_kept_its_size_comes_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.link.cuts = (MIB,)
    changed = FILES | {"a.txt": FILES["a.txt"][::-1]}

    async def change(_pause_s: float) -> None:
        draft = rig.there / "a.new"
        draft.write_bytes(changed["a.txt"])
        draft.replace(rig.there / "a.txt")

    monkeypatch.setattr("lab_server.agent.fetching.asyncio.sleep", change)
    await rig.fetching.run()
    assert rig.found() == changed
