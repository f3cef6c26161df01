"""A CA of your own, the server's certificate, and client certificates for mTLS."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab_core.errors import SettingsError

CA_DAYS = 3650
# Clocks of clients may be a little behind.
_BEFORE = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, days: float = CA_DAYS) -> Authority:
        """Return a new CA."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("lab-train CA")
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            _builder(name, name, key, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(is_ca=True), critical=True)
            .add_extension(identifier, critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def of_folder(cls, folder: Path) -> Authority:
        """Return the folder's CA; create it if there is none.

        Raises:
            SettingsError: If the folder's files are not a CA and its key.
        """
        cert_path, key_path = folder / "ca.crt", folder / "ca.key"
        if not cert_path.exists() and not key_path.exists():
            authority = cls.create()
            write_pair(folder, "ca", authority.cert, authority.key)
            return authority
        try:
            cert = x509.load_pem_x509_certificate(cert_path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise SettingsError(f"the CA in {folder} cannot be used: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SettingsError(f"{key_path} is not a key that `lab-server certs init` makes")
        return cls(cert, key)

    def server(self, hosts: Sequence[str], days: float) -> tuple[x509.Certificate, _Key]:
        """Return a server certificate for these host names and IP addresses."""
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        return self._issue(hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, days, names)

    def client(self, name: str, days: float) -> tuple[x509.Certificate, _Key]:
        """Return a client certificate."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _issue(
        self,
        name: str,
        purpose: x509.ObjectIdentifier,
        days: float,
        names: x509.SubjectAlternativeName | None = None,
    ) -> tuple[x509.Certificate, _Key]:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(_name(name), self.cert.subject, key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(issuer_id, critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256()), key


_Key = ec.EllipticCurvePrivateKey


def write_pair(folder: Path, name: str, cert: x509.Certificate, key: _Key) -> tuple[Path, Path]:
    """Write a certificate, and its key with mode 0600; return both paths.

    Each file is replaced atomically: a running server reads the old or the new one.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    cert_pem = cert.public_bytes(serialization.Encoding.PEM)
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    for path, data, mode in zip(paths, (cert_pem, key_pem), (0o644, 0o600), strict=True):
        partial = path.with_name(path.name + ".new")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
        partial.replace(path)
    return paths


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - _BEFORE)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError as error:
        raise SettingsError(f"{text!r} cannot be the name in a certificate: {error}") from None


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise SettingsError(f"{host!r} is neither an IP address nor an ASCII host name") from None


def _usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
