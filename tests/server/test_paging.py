"""The secret that seals page tokens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from lab_rpc.v1 import search_service_pb2, training_service_pb2
from lab_server.errors import InvalidRequest
from lab_server.files.secret import server_secret
from lab_server.rpc.paging import Paging

REQUEST = training_service_pb2.ListRunsRequest()


def of_home(home: Path) -> Paging:
    """Return the paging of the server of a home."""
    return Paging(server_secret(home))


def opens(paging: Paging, token: str) -> bool:
    """Whether a token counts."""
    try:
        paging.query(training_service_pb2.ListRunsRequest(page_token=token))
    except InvalidRequest:
        return False
    return True


def test_a_token_is_valid_after_a_restart_and_in_no_other_home(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    token = of_home(tmp_path).token(REQUEST, "after")
    assert opens(of_home(tmp_path), token)
    assert not opens(of_home(other), token)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_token_of_searches_is_none_of_runs(tmp_path: Path) -> None:
    paging = of_home(tmp_path)
    token = paging.token(search_service_pb2.ListSearchesRequest(), "s1")
    assert paging.position(search_service_pb2.ListSearchesRequest(page_token=token)) == "s1"
    assert not opens(paging, token)


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_secret_that_a_full_disk_has_cut_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    token = of_home(tmp_path).token(REQUEST, "after")
    assert opens(of_home(tmp_path), token)
    assert not opens(Paging(content), token)


def test_a_server_whose_disk_takes_no_secret_has_one_until_it_ends(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    paging = of_home(gone)
    token = paging.token(REQUEST, "after")
    assert opens(paging, token)
    assert not opens(of_home(gone), token)
