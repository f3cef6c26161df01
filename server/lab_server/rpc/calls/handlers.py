"""The handlers of the services by RPC; an RPC without a handler is an error."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from lab_rpc.v1 import (
    agent_service_pb2,
    peer_service_pb2,
    search_service_pb2,
    training_service_pb2,
)

_TRAINING = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"]
_SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"]
_PEER = peer_service_pb2.DESCRIPTOR.services_by_name["PeerService"]
_AGENT = agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"]

SERVICE_NAME = _TRAINING.full_name
SEARCH_SERVICE_NAME = _SEARCH.full_name
PEER_SERVICE_NAME = _PEER.full_name
AGENT_SERVICE_NAME = _AGENT.full_name

_MAKE = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def handlers(*parts: object) -> grpc.GenericRpcHandler:
    """Return the handlers of TrainingService, each RPC from the part that has a method of its name.

    A stream's handler yields encoded messages, so that stored events are sent as the bytes they are.
    """
    return _handlers(_TRAINING, *parts)


def search_handlers(*parts: object) -> grpc.GenericRpcHandler:
    """Return the handlers of SearchService; see `handlers`."""
    return _handlers(_SEARCH, *parts)


def agent_handlers(part: object) -> grpc.GenericRpcHandler:
    """Return the handlers of AgentService; see `handlers`."""
    return _handlers(_AGENT, part)


def peer_handlers(part: object) -> grpc.GenericRpcHandler:
    """Return the handlers of PeerService; see `handlers`."""
    return _handlers(_PEER, part)


def _handlers(service: ServiceDescriptor, *parts: object) -> grpc.GenericRpcHandler:
    table: dict[str, Any] = {}
    for method in service.methods:
        (behavior,) = (getattr(part, method.name) for part in parts if hasattr(part, method.name))
        table[method.name] = _MAKE[method.client_streaming, method.server_streaming](
            behavior,
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=None if method.server_streaming else _serialize,
        )
    return grpc.method_handlers_generic_handler(service.full_name, table)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
