"""The gRPC server: its interceptors, its limits, its port."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from lab_core.errors import SettingsError
from lab_server.rpc.calls.auth import Authenticate
from lab_server.rpc.calls.call_log import log_calls
from lab_server.rpc.calls.handlers import (
    AGENT_SERVICE_NAME,
    PEER_SERVICE_NAME,
    SEARCH_SERVICE_NAME,
    SERVICE_NAME,
)
from lab_server.rpc.calls.interceptors import CallInterceptor, CallMiddleware, errors_as_statuses
from lab_server.rpc.calls.metrics import RpcMetrics
from lab_server.rpc.health import Health
from lab_server.security.tls import Certificates
from lab_server.security.tokens import Tokens
from lab_server.settings.address import Address, listen
from lab_server.settings.settings import Settings


def interceptor(
    registry: CollectorRegistry, tokens: Tokens | None = None, *innermost: CallMiddleware
) -> grpc.aio.ServerInterceptor:
    """Return what each call passes through."""
    authenticate = [Authenticate(tokens)] if tokens else []
    return CallInterceptor(
        RpcMetrics(registry), log_calls, errors_as_statuses, *authenticate, *innermost
    )


def make_server(
    settings: Settings,
    registry: CollectorRegistry,
    health: Health,
    tokens: Tokens | None = None,
    *innermost: CallMiddleware,
) -> grpc.aio.Server:
    """Return a gRPC server with the settings' limits, and health and reflection, not yet started."""
    server = grpc.aio.server(
        interceptors=[interceptor(registry, tokens, *innermost)],
        options=limits_of(settings),
    )
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (
        SERVICE_NAME,
        SEARCH_SERVICE_NAME,
        AGENT_SERVICE_NAME,
        PEER_SERVICE_NAME,
        health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    )
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    return server


def limits_of(settings: Settings) -> list[tuple[str, int]]:
    """Return gRPC's options: limits of messages and connections, and keepalive."""
    keepalive_ms = _ms(settings.keepalive_s)
    return [
        # Two servers on one port would share the calls among them.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", max(keepalive_ms // 2, 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # An idle stream has no data between pings; the documented default stops after two.
        ("grpc.http2.max_pings_without_data", 0),
        # Clients may ping as often as the server itself does.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", max(keepalive_ms // 4, 100)),
        ("grpc.http2.max_ping_strikes", 5),
        ("grpc.max_connection_idle_ms", _ms(settings.idle_connection_s)),
        ("grpc.server_handshake_timeout_ms", _ms(settings.handshake_s)),
    ]


def bind(server: grpc.aio.Server, settings: Settings, certificates: Certificates | None) -> Address:
    """Listen, and return the address with its real port; calls wait until the server is started.

    Raises:
        SettingsError: If it cannot be bound.
    """
    address = settings.grpc_address
    with listen(address, "grpc"):
        pass  # a clear error: gRPC itself does not say why
    try:
        if certificates is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), certificates.grpc_credentials())
    except RuntimeError:
        port = 0
    if not port:
        raise SettingsError(
            f"cannot listen on grpc={address}: the port is in use, or this machine does not have the address"
        )
    return address.with_port(port)


def _ms(seconds: float) -> int:
    # gRPC takes a C int
    return min(int(seconds * 1000), 2**31 - 1)
