"""TLS, client certificates and tokens, with an authority made for the test."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab_client import Client, errors
from lab_client.cli.context import Settings
from lab_client.cli.doctor import examine
from tests.client.twin import Twin


class Authority:
    """Issues certificates into a folder; a root, or in the name of another authority."""

    def __init__(self, folder: Path, name: str, root: Authority | None = None) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (root or self)._sign(self.name, self.key, is_ca=True)
        self.path = self._write(f"{name}.pem", certificate)

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._write(f"{name}.pem", self._sign(subject, key, is_ca=False))
        key_path = self.folder / f"{name}.key"
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_path

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def secure(authority: Authority) -> Iterator[Twin]:
    certificate, key = authority.issue("server")
    pair = (key.read_bytes(), certificate.read_bytes())
    twin = Twin().start(
        credentials=grpc.ssl_server_credentials(
            [pair], authority.path.read_bytes(), require_client_auth=True
        )
    )
    yield twin
    twin.close()


def test_a_client_with_a_certificate_and_a_token_is_let_in(
    secure: Twin, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure.token = "secret"
    cert, key = authority.issue("client")
    for name, value in (("CA", authority.path), ("CERT", cert), ("KEY", key), ("TOKEN", "secret")):
        monkeypatch.setenv(f"LAB_{name}", str(value))
    with Client(secure.address) as client:
        assert client.server_info().principal == "me"
    assert all(finding.is_good for finding in examine(Settings(secure.address)))


def test_an_authority_that_is_no_root_is_trusted_by_client_and_doctor(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "department", Authority(tmp_path, "company"))
    certificate, key = authority.issue("server")
    pair = (key.read_bytes(), certificate.read_bytes())
    twin = Twin().start(credentials=grpc.ssl_server_credentials([pair]))
    try:
        with Client(twin.address, ca=authority.path) as client:
            assert client.server_info().version
        findings = list(examine(Settings(twin.address, ca=authority.path)))
        assert all(finding.is_good for finding in findings), findings
    finally:
        twin.close()


def test_a_server_of_a_foreign_authority_is_not_trusted(
    secure: Twin, authority: Authority, tmp_path: Path
) -> None:
    cert, key = authority.issue("client")
    foreign = Authority(tmp_path, "foreign").path
    with (
        Client(secure.address, ca=foreign, cert=cert, key=key, retry_timeout_s=0.5) as client,
        pytest.raises(errors.Unavailable, match="no secure connection"),
    ):
        client.server_info()
    *_, last = examine(Settings(secure.address, ca=foreign, cert=cert, key=key))
    assert (last.what, "LAB_CA" in last.text) == ("TLS", True)


def test_a_client_without_tls_is_told_that_the_server_wants_it(secure: Twin) -> None:
    with (
        Client(secure.address, retry_timeout_s=0.2) as client,
        pytest.raises(errors.Unavailable, match=r"does it require TLS\? Check with: lab doctor"),
    ):
        client.server_info()
    *_, last = examine(Settings(secure.address))
    assert (last.what, "requires TLS" in last.text) == ("TLS", True)


def test_a_client_without_a_certificate_is_not_let_in(secure: Twin, authority: Authority) -> None:
    with (
        Client(secure.address, ca=authority.path, retry_timeout_s=0.2) as client,
        pytest.raises(errors.Unavailable),
    ):
        client.server_info()
    *_, last = examine(Settings(secure.address, ca=authority.path))
    assert (last.what, "client certificate" in last.text) == ("server", True)


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "not.pem"
    path.write_text("this is no certificate")
    with (
        Client("localhost:1", ca=path, retry_timeout_s=0) as client,
        pytest.raises(errors.LabError),
    ):
        client.server_info()
