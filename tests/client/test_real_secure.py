"""The client against a real server with TLS, client certificates and tokens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab_client import Client, errors
from lab_client.cli.context import Settings
from lab_client.cli.doctor import examine
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow


def lab_server(*arguments: str | Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "lab_server", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def certificates(folder: Path) -> dict[str, Any]:
    lab_server("certs", "init", "--dir", folder, "--client", "me")
    return {"ca": folder / "ca.crt", "cert": folder / "me.crt", "key": folder / "me.key"}


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    made = {}
    for role in ("viewer", "operator"):
        file = folder / "tokens.json"
        output = lab_server("tokens", "create", role, "--role", role, "--tokens", file)
        made[role] = output.split()[-1]
    return made


@pytest.fixture(scope="module")
def secured(
    folder: Path, certificates: dict[str, Any], tokens: dict[str, str]
) -> Iterator[RealServer]:
    server = start_server(
        folder / "home",
        *("--tls-cert", str(folder / "server.crt"), "--tls-key", str(folder / "server.key")),
        *("--tls-client-ca", str(certificates["ca"]), "--tokens", str(folder / "tokens.json")),
    )
    yield server
    server.stop()


def test_who_has_certificate_and_token_is_let_in(
    secured: RealServer, certificates: dict[str, Any], tokens: dict[str, str]
) -> None:
    with Client(secured.address, token=tokens["operator"], **certificates) as client:
        info = client.server_info()
        assert (info.principal, info.role) == ("operator", "operator")
        assert list(client.runs()) == []
    settings = Settings(secured.address, tokens["operator"], None, **certificates)
    findings = list(examine(settings))
    assert all(finding.is_good for finding in findings), findings


@pytest.mark.parametrize("token", ["", "wrong", "lab_0123456789abcdef"])
def test_who_has_no_good_token_is_told(
    secured: RealServer, certificates: dict[str, Any], token: str
) -> None:
    with (
        Client(secured.address, token=token, **certificates) as client,
        pytest.raises(errors.Unauthenticated, match="LAB_TOKEN"),
    ):
        client.server_info()
    *_, last = examine(Settings(secured.address, token, None, **certificates))
    assert (last.what, last.is_good) == ("token", False)


def test_a_viewer_may_look_and_not_start(
    secured: RealServer, certificates: dict[str, Any], tokens: dict[str, str]
) -> None:
    with Client(secured.address, token=tokens["viewer"], **certificates) as client:
        assert list(client.runs()) == []
        with pytest.raises(errors.PermissionDenied):
            client.create("mnist")


@pytest.mark.parametrize("missing", ["everything", "certificate"])
def test_who_has_no_certificate_is_not_let_in(
    secured: RealServer, certificates: dict[str, Any], missing: str
) -> None:
    given: dict[str, Any] = {} if missing == "everything" else {"ca": certificates["ca"]}
    with (
        Client(secured.address, token="x", retry_timeout_s=0.3, **given) as client,
        pytest.raises((errors.Unavailable, errors.IncompatibleServer)),
    ):
        client.server_info()
