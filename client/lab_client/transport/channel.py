"""Channels to a server, and the calls of its services on them, for both shells."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from lab_client.errors import ConnectionSettingsError
from lab_client.transport.target import Target
from lab_rpc.v1 import search_service_pb2, training_service_pb2

_SERVICES = (
    training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"],
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
)
_METHODS = {
    name: method for service in _SERVICES for name, method in service.methods_by_name.items()
}

_MAX_RECEIVE_BYTES = 512 * 1024 * 1024  # a whole history in one answer
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", _MAX_RECEIVE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    # gRPC's own retries and its slow reconnects (up to 2 minutes) would hide from ours.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Without it a second client in the process would share the first one's broken connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "lab-client"),
)


def metadata(target: Target) -> tuple[tuple[str, str], ...]:
    """Return what is sent with every call."""
    return (("authorization", f"Bearer {target.token}"),) if target.token else ()


def _credentials(target: Target) -> grpc.ChannelCredentials:
    try:
        return grpc.ssl_channel_credentials(target.ca, target.key, target.cert)
    except Exception as error:
        raise ConnectionSettingsError(f"the certificates cannot be used: {error}") from None


def open_channel(target: Target) -> grpc.Channel:
    """Return a channel; it connects at its first call."""
    if target.is_tls:
        return grpc.secure_channel(target.address, _credentials(target), options=OPTIONS)
    return grpc.insecure_channel(target.address, options=OPTIONS)


def open_aio_channel(target: Target) -> grpc.aio.Channel:
    """Return an asyncio channel, for the loop that runs now."""
    if target.is_tls:
        return grpc.aio.secure_channel(target.address, _credentials(target), options=OPTIONS)
    return grpc.aio.insecure_channel(target.address, options=OPTIONS)


def bind(channel: Any, rpc: str) -> Any:
    """Return what calls an RPC of a service on a channel of either kind."""
    method = _METHODS[rpc]
    makers = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
    }
    make = makers[method.client_streaming, method.server_streaming]
    return make(
        f"/{method.containing_service.full_name}/{rpc}",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
