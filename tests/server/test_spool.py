"""The spool survives torn ends and flipped bits: only the damaged tail is lost."""

from __future__ import annotations

import os
import resource
import stat
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab_server.files.spool import (
    HEADER_BYTES,
    MAX_RECORD_BYTES,
    SpoolReader,
    SpoolWriter,
    encode_record,
)

PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6)


def read_all(reader: SpoolReader, max_bytes: int = 1 << 20) -> list[bytes]:
    payloads: list[bytes] = []
    while records := reader.read(max_bytes):
        payloads += [record.payload for record in records]
    return payloads


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that each example of hypothesis writes anew."""
    return tmp_path_factory.mktemp("spool") / "1"


@settings(deadline=None)
@given(payloads=PAYLOADS, max_bytes=st.integers(0, 200))
def test_what_was_appended_is_read_whatever_the_size_of_a_read(
    path: Path, payloads: list[bytes], max_bytes: int
) -> None:
    path.unlink(missing_ok=True)
    with SpoolWriter(path) as writer, SpoolReader(path) as reader:
        end = writer.append(payloads)

        assert read_all(reader, max_bytes) == payloads
        assert reader.offset == end == path.stat().st_size
        assert not reader.is_damaged


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(payloads=PAYLOADS)
def test_a_spool_cut_at_any_byte_loses_only_the_cut_record(
    path: Path, payloads: list[bytes]
) -> None:
    data = b"".join(map(encode_record, payloads))
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = [
            p
            for i, p in enumerate(payloads)
            if cut >= sum(map(len, payloads[: i + 1])) + 8 * (i + 1)
        ]
        with SpoolReader(path) as reader:
            assert read_all(reader) == whole
            assert not reader.is_damaged

            # the rest comes: the reader goes on where it stopped
            path.write_bytes(data)
            assert whole + read_all(reader) == payloads


@settings(max_examples=30, deadline=None)
@given(payloads=PAYLOADS, data=st.data())
def test_a_flipped_bit_loses_no_record_before_it_and_invents_none(
    path: Path, payloads: list[bytes], data: st.DataObject
) -> None:
    written = bytearray(b"".join(map(encode_record, payloads)))
    bit = data.draw(st.integers(0, len(written) * 8 - 1))
    written[bit // 8] ^= 1 << bit % 8
    path.write_bytes(written)
    starts = [sum(len(p) + HEADER_BYTES for p in payloads[:i]) for i in range(len(payloads))]
    hit = max(i for i, start in enumerate(starts) if start <= bit // 8)

    with SpoolReader(path) as reader:
        found = read_all(reader)

    assert found == payloads[:hit]
    assert reader.offset == starts[hit]


def test_a_damaged_record_ends_the_readable_part(tmp_path: Path) -> None:
    path = tmp_path / "1"
    whole = encode_record(b"one")
    for damaged in (
        struct.pack("<II", 3, 1) + b"two",
        struct.pack("<II", 0, 0),
        struct.pack("<II", MAX_RECORD_BYTES + 1, 0),
    ):
        path.write_bytes(whole + damaged + encode_record(b"three"))
        with SpoolReader(path) as reader:
            assert [record.payload for record in reader.read()] == [b"one"]
            assert reader.is_damaged
            assert reader.read() == []
            assert reader.offset == len(whole)


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "1") as writer:
        writer.append([b"one", b"two", b"three"])
    with SpoolReader(tmp_path / "1") as reader:
        first, second, _ = reader.read()

    with SpoolReader(tmp_path / "1", first.end_offset) as reader:
        assert [record.payload for record in reader.read(1)] == [b"two"]
        assert reader.offset == second.end_offset
        assert reader.unread_bytes() == HEADER_BYTES + len(b"three")


def test_a_file_that_is_not_there_yet_has_nothing_to_read(tmp_path: Path) -> None:
    with SpoolReader(tmp_path / "1") as reader:
        assert reader.read() == []
        assert reader.unread_bytes() == 0
        with SpoolWriter(tmp_path / "1") as writer:
            writer.append([b"one"])
            assert [record.payload for record in reader.read()] == [b"one"]


def test_a_file_shorter_than_the_offset_has_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(encode_record(b"one"))
    with SpoolReader(tmp_path / "1", 1000) as reader:
        assert reader.read() == []
        assert reader.unread_bytes() == 0
        assert not reader.is_damaged


def test_a_second_writer_goes_on_after_the_first(tmp_path: Path) -> None:
    for payload in (b"one", b"two"):
        with SpoolWriter(tmp_path / "1") as writer:
            writer.append([payload])
            writer.sync()
    with SpoolReader(tmp_path / "1") as reader:
        assert read_all(reader) == [b"one", b"two"]


def test_a_write_that_the_disk_refuses_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "1"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SpoolWriter(path) as writer:
        before = writer.append([b"one"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                writer.append([b"x" * 60, b"y" * 60])
            assert path.stat().st_size == before
            writer.append([b"small"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.append([b"z" * 200])
    with SpoolReader(path) as reader:
        assert read_all(reader) == [b"one", b"small", b"z" * 200]


@pytest.mark.parametrize("size", [0, MAX_RECORD_BYTES + 1])
def test_a_record_of_an_impossible_size_is_refused_before_it_is_written(
    tmp_path: Path, size: int
) -> None:
    with SpoolWriter(tmp_path / "1") as writer:
        with pytest.raises(ValueError, match="a spool record has 1 to"):
            writer.append([b"one", b"x" * size])
        assert os.path.getsize(tmp_path / "1") == 0


def test_the_largest_record_is_read_by_small_reads(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "1") as writer:
        writer.append([b"x" * MAX_RECORD_BYTES, b"y"])
    with SpoolReader(tmp_path / "1") as reader:
        assert [len(record.payload) for record in reader.read(10)] == [MAX_RECORD_BYTES]
        assert [record.payload for record in reader.read(10)] == [b"y"]


def test_a_spool_is_its_owners_alone_and_tells_its_end(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "1") as writer:
        assert stat.S_IMODE(os.stat(tmp_path / "1").st_mode) == 0o600
        assert writer.end == 0
        assert writer.append([b"one"]) == writer.end == HEADER_BYTES + len(b"one")


def test_an_impossible_header_is_damage_though_nothing_follows_it(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(struct.pack("<II", 0, 0))
    with SpoolReader(tmp_path / "1") as reader:
        assert not reader.is_damaged
        assert reader.read() == []
        assert reader.is_damaged


def test_a_reader_that_was_closed_opens_its_file_again(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "1") as writer, SpoolReader(tmp_path / "1") as reader:
        writer.append([b"one"])
        assert read_all(reader) == [b"one"]
        reader.close()
        writer.append([b"two"])
        assert read_all(reader) == [b"two"]


def test_closing_twice_closes_no_file_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = SpoolWriter(tmp_path / "1"), SpoolReader(tmp_path / "1")
    assert reader.unread_bytes() == 0
    closed, close = list[int](), os.close

    def note(fd: int) -> None:
        closed.append(fd)
        close(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", note)
        for file in (writer, writer, reader, reader):
            file.close()
    assert len(closed) == 2
