"""Files that arrive in pieces: there when they are whole and what was announced, and not before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lab_server.errors import DamagedFile
from lab_server.files.arriving import ArrivingFile, num_arrived, receive
from lab_server.files.artifacts import Artifact, list_artifacts
from lab_server.files.pieces import Piece, read_pieces
from lab_server.files.run_copy import RunCopy
from lab_server.files.run_folder import RunFolder

DATA = bytes(range(256)) * 4000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def pieces_of(*pieces: Piece) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_when_it_is_whole_and_the_old_one_until_then(tmp_path: Path) -> None:
    place = tmp_path / "new" / "model.pt"
    place.parent.mkdir()
    place.write_bytes(b"old")
    file = ArrivingFile(place, len(DATA))
    file.write(DATA[:1000])
    assert place.read_bytes() == b"old"
    file.write(DATA[1000:])
    assert place.read_bytes() == b"old"
    file.finish(sha256(DATA))
    assert place.read_bytes() == DATA
    assert names(place.parent) == ["model.pt"]


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 255)
    ArrivingFile(place, 0).finish(sha256(b""))
    assert names(tmp_path) == [place.name]


@pytest.mark.parametrize(
    ("data", "digest", "problem"),
    [
        (b"other", sha256(b"bytes"), "has another content than its SHA-256 says"),
        (b"byte", sha256(b"byte"), "is not whole: 1 bytes are missing"),
        (b"bytes!", sha256(b"bytes!"), "has more bytes than were announced"),
    ],
)
def test_a_file_that_is_not_what_was_announced_does_not_come(
    tmp_path: Path, data: bytes, digest: str, problem: str
) -> None:
    file = ArrivingFile(tmp_path / "model.pt", 5)

    def take() -> None:
        file.write(data)
        file.finish(digest)

    with pytest.raises(DamagedFile, match=f"'model.pt' {problem}"):
        take()
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("offset", [0, 1, 1000, 999_999])
def test_what_was_cut_off_goes_on_from_any_byte_that_came(tmp_path: Path, offset: int) -> None:
    place = tmp_path / "model.pt"
    file = ArrivingFile(place, len(DATA))
    file.write(DATA[:1_000_000])
    file.close()
    assert num_arrived(place) == 1_000_000
    file = ArrivingFile(place, len(DATA), offset=offset)
    file.write(DATA[offset:])
    file.finish(sha256(DATA))
    assert (place.read_bytes(), num_arrived(place)) == (DATA, 0)


def test_the_hash_of_a_file_that_went_on_is_of_all_of_it(tmp_path: Path) -> None:
    place = tmp_path / "model.pt"
    file = ArrivingFile(place, 4)
    file.write(b"ab")
    file.close()
    file = ArrivingFile(place, 4, offset=2)
    file.write(b"CD")
    with pytest.raises(DamagedFile, match="another content"):
        file.finish(sha256(b"ABCD"))
    assert names(tmp_path) == []


def test_a_file_cannot_go_on_behind_what_came(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="lacks its first 5 bytes"):
        ArrivingFile(tmp_path / "model.pt", 10, offset=5)


def synced_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which the names of what is synced are added from now on."""
    synced: list[str] = []
    fsync: Callable[[int], None] = os.fsync

    def note(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    return synced


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_file_and_its_name_are_synced_where_that_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_synced: bool
) -> None:
    synced = synced_of(monkeypatch)
    file = ArrivingFile(tmp_path / "model.pt", 1, is_synced=is_synced)
    file.write(b"x")
    file.finish(sha256(b"x"))
    draft = f".{sha256(b'model.pt')[:16]}.part"
    assert synced == ([draft, tmp_path.name] if is_synced else [])


async def test_files_come_one_after_the_other(tmp_path: Path) -> None:
    came = pieces_of(
        Piece(b"a", "one", 2),
        Piece(b"b", sha256=sha256(b"ab")),
        Piece(b"", "in/two", 0, sha256=sha256(b"")),
    )
    await receive(came, tmp_path, is_synced=False)
    assert (tmp_path / "one").read_bytes() == b"ab"
    assert (tmp_path / "in" / "two").read_bytes() == b""
    assert names(tmp_path) == ["in", "one"]


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", ".", "a//b", "a\0b"])
async def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(DamagedFile, match="no path of a run's file"):
        await receive(pieces_of(Piece(b"", path, 0)), folder, is_synced=False)
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize(
    "came",
    [
        [Piece(b"x")],
        [Piece(b"x", "one", 2)],
        [Piece(b"x", "one", 2), Piece(b"y", "two", 1, sha256=sha256(b"y"))],
    ],
)
async def test_bytes_of_no_file_and_files_without_an_end_are_told(
    tmp_path: Path, came: list[Piece]
) -> None:
    with pytest.raises(DamagedFile):
        await receive(pieces_of(*came), tmp_path, is_synced=False)
    assert not (tmp_path / "one").exists()


async def test_a_file_is_closed_where_its_reader_stops_early(tmp_path: Path) -> None:
    path = "log.txt"
    (tmp_path / path).write_bytes(DATA * 9)  # more than a chunk

    def is_open() -> bool:
        opened = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return str((tmp_path / path).resolve()) in opened

    pieces = read_pieces(tmp_path, [path])
    await anext(pieces)
    assert is_open()
    await pieces.aclose()
    assert not is_open()


class Run:
    """A run's folder in another home, and its copy here.

    Attributes:
        num_sent: how many bytes were sent.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.there = tmp_path / "there"
        for path, data in {
            "checkpoints/40/manifest.json": b"manifest",
            "checkpoints/40/model.pt": DATA,
            "log.txt": DATA,
            "parent/checkpoints/7/model.pt": b"parent's",
        }.items():
            (self.there / path).parent.mkdir(parents=True, exist_ok=True)
            (self.there / path).write_bytes(data)
        self.here = RunFolder(tmp_path / "here" / "run")
        self.here.make()
        self.num_sent = 0

    async def bring(
        self, attempt: int = 1, cut_behind: int = 1 << 40, is_home: bool = False
    ) -> None:
        """Copy, as a server does, until enough bytes have come."""
        copy = RunCopy(self.here, attempt, is_home=is_home)
        files = await list_artifacts(self.there)
        missing = copy.missing(files)
        if missing:
            offset = copy.num_arrived(missing[0])
            await copy.receive(self._sent(missing, offset, cut_behind))
        copy.settle(files)

    async def _sent(self, paths: list[str], offset: int, cut_behind: int) -> AsyncIterator[Piece]:
        num_bytes = 0
        async for piece in read_pieces(self.there, paths, offset):
            yield piece
            self.num_sent += len(piece.data)
            num_bytes += len(piece.data)
            if num_bytes > cut_behind:
                raise ConnectionError

    async def is_same(self) -> bool:
        files = await list_artifacts(self.here.path)
        return files == await list_artifacts(self.there) and all(
            (self.here.path / f.path).read_bytes() == (self.there / f.path).read_bytes()
            for f in files
        )


def open_files_below(folder: Path) -> list[str]:
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [link for link in links if link.startswith(f"{folder}/")]


@pytest.mark.parametrize("cut_behind", [0, 300_000, 1_200_000])
async def test_a_copy_that_was_cut_off_goes_on_and_nothing_comes_twice(
    tmp_path: Path, cut_behind: int
) -> None:
    run = Run(tmp_path)
    with pytest.raises(ConnectionError) as cut:
        await run.bring(cut_behind=cut_behind)
    assert open_files_below(run.here.path) == [], f"also while {cut.value!r} is handled"
    assert await list_artifacts(run.here.path) == [], "a checkpoint appears whole, or not at all"
    await run.bring()
    assert await run.is_same()
    assert run.num_sent == sum(file.size_bytes for file in await list_artifacts(run.there))
    assert names(run.here.spool_folder) == []


async def test_what_is_here_is_not_copied_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run.bring()
    before = run.num_sent
    (run.here.path / "log.txt").unlink()
    await run.bring()
    assert await run.is_same()
    assert run.num_sent - before == len(DATA)


async def test_what_grew_in_the_other_home_is_copied_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    await run.bring()
    before = run.num_sent
    (run.there / "log.txt").write_bytes(DATA + b"of the next attempt")
    (run.there / "parent" / "checkpoints" / "7" / "model.pt").write_bytes(b"is never changed")
    await run.bring(attempt=2)
    assert (run.here.path / "log.txt").read_bytes() == DATA + b"of the next attempt"
    assert run.num_sent - before == len(DATA) + len(b"of the next attempt")


async def test_what_is_here_of_an_earlier_time_gives_way_to_what_is_kept_from_now_on(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path)
    await run.bring()
    (run.there / "log.txt").write_bytes(DATA[::-1])
    (run.there / "checkpoints" / "40" / "model.pt").write_bytes(DATA[::-1])
    (run.here.checkpoints / "50").mkdir()
    (run.here.checkpoints / "50" / "model.pt").write_bytes(b"of steps that were taken back")
    run.here.send(1, "stop")
    with pytest.raises(ConnectionError):
        await run.bring(attempt=2, cut_behind=1_200_000, is_home=True)
    assert (run.here.path / "log.txt").read_bytes() == DATA, "until all of it has come"
    await run.bring(attempt=2, is_home=True)
    assert await run.is_same()
    assert names(run.here.checkpoints) == ["40"]
    assert run.here.was_sent(1, "stop")


async def test_what_an_earlier_attempt_left_aside_is_not_gone_on_with(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(ConnectionError):
        await run.bring(attempt=1, cut_behind=1_200_000)
    changed = DATA[::-1]
    (run.there / "checkpoints" / "40" / "model.pt").write_bytes(changed)
    await run.bring(attempt=2)
    assert await run.is_same()


async def test_a_copy_is_synced_to_its_last_name_before_the_other_home_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    synced = synced_of(monkeypatch)
    await run.bring(is_home=True)
    drafts = [name for name in synced if name.endswith(".part")]
    assert len(drafts) == 4
    assert {"here", "run", "checkpoints", "40", "7", "parent"} <= set(synced)


async def test_a_listing_with_a_path_that_leads_out_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path)
    copy = RunCopy(run.here, 1, is_home=False)
    with pytest.raises(DamagedFile, match="no path"):
        copy.missing([Artifact("../there/log.txt", 3)])
