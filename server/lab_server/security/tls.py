"""TLS for both ports, from files that may be renewed while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc
import structlog

from lab_core.errors import SettingsError

_log = structlog.get_logger("lab_server.tls")


class Certificates:
    """The server's certificate and key, and for mTLS the CA of client certificates."""

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read the files.

        Raises:
            SettingsError: If one cannot be read, or certificate and key do not match.
        """
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._stamp = self._look()
        self._http: ssl.SSLContext | None = None
        self._http_stamp = self._stamp
        self._configuration()
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that look at the files before each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed_configuration,  # type: ignore[arg-type]  # the stub forgets None
            require_client_authentication=self._client_ca is not None,
        )

    def http_context(self) -> ssl.SSLContext:
        """Return the context for a new HTTP connection, with the certificate as it is now."""
        stamp = self._look()
        if self._http is None:
            self._http = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._load(self._http)
        elif stamp != self._http_stamp:
            try:
                self._load(self._http)
            except SettingsError as error:
                _log.error("cannot reload the certificate; keeping the old one", reason=str(error))
        self._http_stamp = stamp
        return self._http

    def _changed_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        # grpc calls this in a thread of its own; it keeps what it had when it gets None.
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            configuration = self._configuration()
        except SettingsError as error:
            _log.error("cannot reload the certificate; keeping the old one", reason=str(error))
            return None
        _log.info("certificate reloaded")
        return configuration

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(_read(self._key), _read(self._cert))],
            root_certificates=_read(self._client_ca) if self._client_ca else None,
        )

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"tls_cert={self._cert} and tls_key={self._key} are not a certificate and its key: {error}"
            ) from None
        if self._client_ca is not None:
            self._require_clients(context, self._client_ca)

    @staticmethod
    def _require_clients(context: ssl.SSLContext, ca: Path) -> None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"tls_client_ca={ca} is no CA's certificate: {error}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        # as gRPC does: it takes a CA that is no root, and no check of Python 3.13's own
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT

    def _look(self) -> tuple[tuple[int, int], ...]:
        paths = [path for path in (self._cert, self._key, self._client_ca) if path]
        return tuple(_stamp(path) for path in paths)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_ino
