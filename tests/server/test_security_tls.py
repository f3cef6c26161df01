"""TLS and mTLS over real sockets, with certificates that `lab-server certs init` makes."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from typer.testing import CliRunner

from lab_core.errors import SettingsError
from lab_rpc.v1 import training_service_pb2, training_service_pb2_grpc
from lab_server.cli.commands import app
from lab_server.http.server import Http
from lab_server.model.roles import Role
from lab_server.security.certs import Authority, write_pair
from lab_server.security.tls import Certificates
from lab_server.security.tokens import TokenFile, Tokens
from lab_server.settings.address import Address, listen
from tests.server.conftest import Surface, open_surface

pb = training_service_pb2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a CA, the server's certificate and that of a client, made by the command."""
    where = tmp_path / "certs"
    arguments = ["certs", "init", "--dir", str(where), "--host", "127.0.0.1", "--client", "anna"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return where


@contextlib.asynccontextmanager
async def secured(folder: Path, *, mutual: bool = False) -> AsyncIterator[Surface]:
    ca = folder / "ca.crt" if mutual else None
    certificates = Certificates(folder / "server.crt", folder / "server.key", ca)
    (folder.parent / "home").mkdir()
    async with open_surface(folder.parent / "home", certificates=certificates) as surface:
        yield surface


async def code(address: str, ca: Path, pair: Path | None = None) -> str:
    """Return the code of a call with a new connection; `pair` is a path without its ending."""
    credentials = _credentials(ca, pair)
    # A pool of its own, or grpc would take the connection of an earlier channel.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        try:
            await stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return "OK"


def _credentials(ca: Path, pair: Path | None) -> grpc.ChannelCredentials:
    if pair is None:
        return grpc.ssl_channel_credentials(ca.read_bytes())
    key, cert = pair.with_suffix(".key").read_bytes(), pair.with_suffix(".crt").read_bytes()
    return grpc.ssl_channel_credentials(ca.read_bytes(), key, cert)


async def test_only_who_trusts_the_ca_connects(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Authority.of_folder(other)
    async with secured(folder) as surface:
        assert await code(surface.address, folder / "ca.crt") == "OK"
        assert await code(surface.address, other / "ca.crt") == "UNAVAILABLE"


async def test_mtls_lets_in_certificates_of_its_ca_alone(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_pair(other, "anna", *Authority.of_folder(other).client("anna", 1))
    ours = Authority.of_folder(folder)
    write_pair(folder, "late", *ours.client("late", -1))
    # a server's certificate does not make one a client
    write_pair(folder, "wrong-purpose", *ours.server(["127.0.0.1"], 1))
    async with secured(folder, mutual=True) as surface:
        found = {
            "none": await code(surface.address, folder / "ca.crt"),
            "right": await code(surface.address, folder / "ca.crt", folder / "anna"),
            "wrong CA": await code(surface.address, folder / "ca.crt", other / "anna"),
            "expired": await code(surface.address, folder / "ca.crt", folder / "late"),
            "wrong purpose": await code(
                surface.address, folder / "ca.crt", folder / "wrong-purpose"
            ),
        }
    assert found == {
        "none": "UNAVAILABLE",
        "right": "OK",
        "wrong CA": "UNAVAILABLE",
        "expired": "UNAVAILABLE",
        "wrong purpose": "UNAVAILABLE",
    }


async def test_a_renewed_certificate_is_used_without_a_restart(folder: Path) -> None:
    ours = Authority.of_folder(folder)
    write_pair(folder, "server", *ours.server(["127.0.0.1"], -1))
    async with secured(folder) as surface:
        assert await code(surface.address, folder / "ca.crt") == "UNAVAILABLE"
        write_pair(folder, "server", *ours.server(["127.0.0.1"], 1))
        assert await code(surface.address, folder / "ca.crt") == "OK"
        # half of a renewal: the old pair stays in use
        (folder / "server.key").write_bytes(b"not a key")
        assert await code(surface.address, folder / "ca.crt") == "OK"


async def test_metrics_beyond_this_machine_need_tls_and_a_token(folder: Path) -> None:
    file = TokenFile(folder.parent / "tokens.json")
    token = file.create("prometheus", Role.VIEWER)
    join = file.create("agent", Role.JOIN)
    trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    async with secured(folder) as surface:
        http = Http(
            surface.exporter,
            lambda: surface.health.is_serving,
            handshake_s=60,
            certificates=Certificates(folder / "server.crt", folder / "server.key"),
            tokens=Tokens(folder.parent / "tokens.json"),
        )
        with listen(Address.parse("127.0.0.1:0")) as listening:
            await http.start(listening)
            url = f"https://127.0.0.1:{listening.getsockname()[1]}"
            found = {}
            connector = aiohttp.TCPConnector(ssl=trust)
            async with aiohttp.ClientSession(connector=connector) as session:
                for path, header in (
                    ("/healthz", ""),
                    ("/metrics", ""),
                    ("/metrics", "Bearer lab_x_y"),
                    ("/metrics", f"Bearer {join}"),
                    ("/metrics", f"Bearer {token}"),
                ):
                    async with session.get(url + path, headers={"Authorization": header}) as answer:
                        found[path, header] = answer.status
                        text = await answer.text()
                        assert ("send Authorization: Bearer TOKEN" in text) == (
                            answer.status == 401
                        )
                        assert "LAB_TOKEN" not in text
            await http.close()
    assert list(found.values()) == [200, 401, 401, 401, 200]


async def test_mtls_holds_for_http_too(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_pair(other, "anna", *Authority.of_folder(other).client("anna", 1))
    write_pair(folder, "late", *Authority.of_folder(folder).client("late", -1))
    pairs = [None, folder / "anna", other / "anna", folder / "late", folder / "server"]
    certificates = Certificates(folder / "server.crt", folder / "server.key", folder / "ca.crt")
    async with secured(folder, mutual=True) as surface:
        http = Http(surface.exporter, lambda: True, handshake_s=60, certificates=certificates)
        with listen(Address.parse("127.0.0.1:0")) as listening:
            await http.start(listening)
            url = f"https://127.0.0.1:{listening.getsockname()[1]}/healthz"
            found = [await _is_served(url, folder / "ca.crt", pair) for pair in pairs]
            await http.close()
    assert found == [False, True, False, False, False]


async def _is_served(url: str, ca: Path, pair: Path | None) -> bool:
    trust = ssl.create_default_context(cafile=str(ca))
    if pair is not None:
        trust.load_cert_chain(pair.with_suffix(".crt"), pair.with_suffix(".key"))
    connector = aiohttp.TCPConnector(ssl=trust)
    async with aiohttp.ClientSession(connector=connector) as session:
        try:
            async with session.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


def test_a_client_ca_that_is_none_fails_at_start(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"tls_client_ca=.* is no CA's certificate"):
        Certificates(folder / "server.crt", folder / "server.key", folder / "server.key")


def test_certs_init_again_renews_and_keeps_the_ca(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = CliRunner().invoke(app, ["certs", "init", "--dir", str(folder)])
    assert result.exit_code == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"server.crt", "server.key"}
    assert (folder / "ca.key").stat().st_mode & 0o077 == 0
    assert (folder / "server.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "hö st"],
        ["--client", "../evil"],
        ["--client", "server"],
        ["--days", "99999"],
        ["--client", "x" * 300],
    ],
)
def test_certs_of_nonsense_are_a_sentence(tmp_path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["certs", "init", "--dir", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("../evil*"))


@pytest.mark.parametrize("broken", ["server.crt", "server.key"])
def test_files_that_are_no_pair_fail_at_start(folder: Path, broken: str) -> None:
    (folder / broken).write_text("nothing")
    with pytest.raises(SettingsError, match="not a certificate and its key"):
        Certificates(folder / "server.crt", folder / "server.key")


def test_a_missing_file_fails_at_start(folder: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        Certificates(folder / "none.crt", folder / "server.key")
