"""Bytes of a spool that arrive over a network: each at its place, and once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_server.errors import InvalidState
from lab_server.executors.remote.mirror import Mirror


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "1")


def test_bytes_are_appended_at_their_offset(mirror: Mirror, tmp_path: Path) -> None:
    assert mirror.size_bytes == 0
    assert mirror.append(0, b"one") == 3
    assert mirror.append(3, b"two") == 6
    assert (tmp_path / "1").read_bytes() == b"onetwo"


def test_bytes_that_are_there_are_not_appended_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.append(0, b"onetwo")
    assert mirror.append(0, b"onetwo") == 6
    assert mirror.append(3, b"twothree") == 11
    assert mirror.append(0, b"on") == 11
    assert (tmp_path / "1").read_bytes() == b"onetwothree"


def test_an_offset_that_jumps_is_refused_with_what_is_there(mirror: Mirror) -> None:
    mirror.append(0, b"one")
    with pytest.raises(InvalidState, match=r"from 4 on .* has 3 bytes"):
        mirror.append(4, b"x")
    assert mirror.size_bytes == 3


def test_no_bytes_at_the_beginning_ask_how_much_is_there(mirror: Mirror) -> None:
    mirror.append(0, b"one")
    assert mirror.append(0, b"") == 3


def test_a_full_disk_leaves_the_file_as_it_was(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.append(0, b"one")
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 3:
            raise OSError(errno.ENOSPC, "no space left")
        return write(fd, bytes(data)[:1])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="no space"):
        mirror.append(3, b"two")
    monkeypatch.undo()
    assert (tmp_path / "1").read_bytes() == b"one"
    assert mirror.append(3, b"two") == 6


@given(
    data=st.binary(max_size=60), cuts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)))
)
def test_whatever_arrives_again_and_in_whichever_pieces_the_file_is_the_spool(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "1"
    mirror = Mirror(path)
    for begin, end in [*cuts, (0, len(data))]:
        if begin <= mirror.size_bytes:
            mirror.append(begin, data[begin:end])
    assert path.read_bytes() == data
