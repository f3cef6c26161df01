"""Where the server is: from arguments, else from the environment, else this machine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from lab_client import Client, errors
from lab_client.transport.target import make_target


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER", "TOKEN", "TLS", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"LAB_{name}", raising=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, "127.0.0.1:50051"),
        ("", "127.0.0.1:50051"),
        ("gpu-box", "gpu-box:50051"),
        ("gpu-box:99", "gpu-box:99"),
        ("http://gpu-box:99/", "gpu-box:99"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("[::1]:99", "[::1]:99"),
        ("unix:/run/lab", "unix:/run/lab"),
    ],
)
def test_an_address_is_completed(address: str | None, expected: str) -> None:
    assert make_target(address).address == expected


@pytest.mark.parametrize("address", ["host:port", "host:0", "host:99999", ":50051", "host:"])
def test_a_wrong_address_is_told(address: str) -> None:
    with pytest.raises(errors.ConnectionSettingsError, match="HOST:PORT"):
        make_target(address)


def test_https_asks_for_tls_unless_it_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_target("https://gpu-box:99").is_tls
    assert not make_target("http://gpu-box:99").is_tls
    assert not make_target("https://gpu-box:99", tls=False).is_tls
    monkeypatch.setenv("LAB_SERVER", "a:1,https://b:2")
    assert make_target().is_tls


def test_arguments_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca").write_bytes(b"PEM")
    monkeypatch.setenv("LAB_SERVER", "far:1")
    monkeypatch.setenv("LAB_TOKEN", " from-env\n")
    monkeypatch.setenv("LAB_CA", str(tmp_path / "ca"))
    target = make_target()
    assert (target.address, target.token, target.ca) == ("far:1", "from-env", b"PEM")
    assert target.is_tls
    target = make_target("near:2", token="mine")
    assert (target.address, target.token) == ("near:2", "mine")
    monkeypatch.delenv("LAB_CA")
    monkeypatch.setenv("LAB_TLS", "yes")
    assert make_target().is_tls


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"token": "a\nb"}, "token"),
        ({"token": "schlüssel"}, "token"),
        ({"ca": "/does/not/exist"}, "cannot read"),
        ({"cert": "x"}, "needs both"),
        ({"ca": "x", "tls": False}, "TLS"),
    ],
)
def test_settings_that_cannot_be_used_are_told(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(errors.ConnectionSettingsError, match=sentence):
        make_target(**arguments)


def test_a_wrong_flag_in_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TLS", "maybe")
    with pytest.raises(errors.ConnectionSettingsError, match="LAB_TLS"):
        make_target()


def test_secrets_are_not_in_the_repr() -> None:
    assert "hidden" not in repr(make_target(token="hidden"))


@pytest.mark.parametrize(
    ("address", "is_told"),
    [
        ("localhost:1", False),
        ("127.0.0.2:1", False),
        ("[::1]:1", False),
        ("unix:/run/lab", False),
        ("gpu-box:1", True),
        ("10.0.0.1:1", True),
    ],
)
def test_a_token_that_others_can_read_is_warned_of(address: str, is_told: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Client(address, token="secret").close()
        Client(address).close()
        Client(address, token="secret", tls=True).close()
    assert [item.category for item in caught] == [errors.UnencryptedToken] * is_told
    assert all(item.filename == __file__ for item in caught)
    assert all("secret" not in str(item.message) for item in caught)
