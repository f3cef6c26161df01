"""`lab doctor`: what exactly is wrong with a connection."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import typer

from lab_client import errors
from lab_client.cli.context import EXIT_NO_CONNECTION, AsJson, Settings, print_json
from lab_client.transport.target import Target, token_warning
from lab_client.transport.version import client_version

_TIMEOUT_S = 5.0
# What a default context checks differs between Pythons; here only what gRPC accepts counts: a trusted
# certificate that is not a root, and (strict from Python 3.13 on) an authority without key identifiers.
_FLAGS_OF_GRPC = (
    ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
)
_ADVICE = re.compile(r"[;,.]?( or)? check[a-z ]*: lab doctor$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing.
        is_good: whether it is as it should be.
        text: a sentence: how it is, and what to do.
    """

    what: str
    is_good: bool
    text: str


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the connection step by step: name, port, TLS, token, version, the server and its store."""
    findings = []
    for finding in examine(context.obj or Settings()):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{'✓' if finding.is_good else '✗'} {finding.what}: {finding.text}")
    if as_json:
        print_json(findings)
    if not all(finding.is_good for finding in findings):
        raise typer.Exit(EXIT_NO_CONNECTION)


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield what is found, from the outside in, up to the first thing that is wrong."""
    try:
        target = settings.target()
    except errors.ConnectionSettingsError as error:
        yield Finding("settings", False, str(error))
        return
    how = "with TLS" if target.is_tls else "without TLS"
    who = "with a token" if target.token else "without a token"
    warning = token_warning(target)
    text = f"{target.address}, {how}, {who}" + (f"; {warning}" if warning else "")
    yield Finding("settings", True, text)
    servers = target.servers()
    reached = []
    for server in servers:
        is_reached = True
        for finding in _reach(server):
            yield finding
            is_reached = is_reached and finding.is_good
        reached.append(is_reached)
    if any(reached):
        yield from _ask(settings, target)


def _reach(target: Target) -> Iterator[Finding]:
    if target.address.startswith("unix:"):
        return
    host, _, port = target.address.rpartition(":")
    host = host.strip("[]")
    try:
        found = sorted({str(item[4][0]) for item in socket.getaddrinfo(host, int(port))})
    except (OSError, UnicodeError) as error:
        yield Finding("name", False, f"{host!r} cannot be resolved to an address: {error}")
        return
    text = "an IP address" if found == [host] else f"resolves to {', '.join(found)}"
    yield Finding("name", True, f"{host} is {text}" if found == [host] else f"{host} {text}")
    try:
        connection = socket.create_connection((host, int(port)), _TIMEOUT_S)
    except ConnectionRefusedError:
        yield Finding(
            "port",
            False,
            f"nothing listens on port {port} of {host}; start the server there (lab-server serve), "
            "or see on which port it is",
        )
        return
    except OSError as error:
        yield Finding(
            "port", False, f"port {port} of {host} cannot be reached: {error}; a firewall?"
        )
        return
    yield Finding("port", True, f"port {port} is open")
    with connection:
        if target.is_tls:
            yield _tls(connection, host, target)
        elif _speaks_tls(host, int(port)):
            yield Finding(
                "TLS",
                False,
                "the server requires TLS; set LAB_CA to its CA certificate, or give --tls",
            )


def _tls(connection: socket.socket, host: str, target: Target) -> Finding:
    try:
        authority = target.ca.decode("ascii") if target.ca is not None else None
        trust = ssl.create_default_context(cadata=authority)
        trust.verify_flags = _FLAGS_OF_GRPC
        trust.set_alpn_protocols(["h2"])
        with trust.wrap_socket(connection, server_hostname=host) as secure:
            return Finding("TLS", True, f"{secure.version()}, the certificate is valid")
    except (ssl.SSLCertVerificationError, UnicodeDecodeError) as error:
        reason = getattr(error, "verify_message", "") or str(error)
        return Finding(
            "TLS",
            False,
            f"the server's certificate is not accepted: {reason}; set LAB_CA to its CA certificate",
        )
    except ssl.SSLError as error:
        return Finding(
            "TLS", False, f"the server does not speak TLS ({error.reason}); try --no-tls"
        )
    except OSError as error:
        return Finding("TLS", False, f"the server ended the connection: {error}")


def _speaks_tls(host: str, port: int) -> bool:
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    probe.check_hostname = False
    probe.verify_mode = ssl.CERT_NONE  # it only asks whether there is TLS; nothing is sent
    probe.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as connection,
            probe.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _without_advice(error: errors.LabError) -> str:
    return _ADVICE.sub("", str(error))


def _ask(settings: Settings, target: Target) -> Iterator[Finding]:
    with settings.open(timeout_s=_TIMEOUT_S, retry_timeout_s=0) as client:
        try:
            info = client.server_info()
        except errors.Unauthenticated as error:
            yield Finding("token", False, str(error))
            return
        except errors.IncompatibleServer as error:
            yield Finding("version", False, _without_advice(error))
            return
        except errors.LabError as error:
            hint = "; the server may ask for a client certificate (LAB_CERT, LAB_KEY)"
            yield Finding("server", False, _without_advice(error) + (hint if target.is_tls else ""))
            return
        if info.principal:
            yield Finding("token", True, f"you are {info.principal}, {info.role}")
        else:
            yield Finding("token", True, "the server requires none")
        yield Finding(
            "version", True, f"server {info.version}, client {client_version() or 'unknown'}"
        )
        if info.absent_leader:
            yield Finding(
                "server", False, f"the server {info.absent_leader}, which leads, does not answer"
            )
            return
        try:
            next(client.runs(limit=1), None)
        except errors.LabError as error:  # the server lives, and its store does not answer
            yield Finding("store", False, _without_advice(error))
            return
        free = sum(not slot.run_id for slot in info.slots)
        yield Finding(
            "server",
            True,
            f"{free} of {len(info.slots)} slots free, {info.queue_length} of at most "
            f"{info.queue_limit} runs waiting",
        )
