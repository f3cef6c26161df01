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

TRAINING = training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"]
SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"]
PEER = peer_service_pb2.DESCRIPTOR.services_by_name["PeerService"]
AGENT = agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"]

SERVICE_NAME = TRAINING.full_name
SEARCH_SERVICE_NAME = SEARCH.full_name
PEER_SERVICE_NAME = PEER.full_name
AGENT_SERVICE_NAME = AGENT.full_name

_MAKE = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def handlers(service: ServiceDescriptor, *parts: object) -> grpc.GenericRpcHandler:
    """Return the handlers of a service, each RPC from the part that has a method of its name.

    A stream's handler yields encoded messages, so that stored events are sent as the bytes they are.
    """
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
