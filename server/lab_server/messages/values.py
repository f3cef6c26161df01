"""Plain values, times and the items of a plan, as messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from lab_rpc.v1 import config_pb2
from lab_server.messages import wire

if TYPE_CHECKING:
    from lab_core.configs import PlainValue

_ORIGINS: Final[Mapping[str, config_pb2.ValueOrigin.ValueType]] = {
    "default": config_pb2.VALUE_ORIGIN_DEFAULT,
    "override": config_pb2.VALUE_ORIGIN_OVERRIDE,
    "option": config_pb2.VALUE_ORIGIN_OPTION,
    "computed": config_pb2.VALUE_ORIGIN_COMPUTED,
}


class PlanItemLike(Protocol):
    """What `plan_item_to_proto` needs of an item of a plan of lab_core.configs."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> PlainValue: ...
    @property
    def origin(self) -> str: ...
    @property
    def option(self) -> str | None: ...
    @property
    def other_options(self) -> Sequence[str]: ...
    @property
    def is_hyperparam(self) -> bool: ...


def plan_item_to_proto(item: PlanItemLike) -> config_pb2.PlanItem:
    """Return a plan's item as a message."""
    message = config_pb2.PlanItem(
        key=item.key,
        origin=_ORIGINS[item.origin],
        option=item.option or "",
        other_options=item.other_options,
        is_hyperparam=item.is_hyperparam,
    )
    if item.value is not None:
        message.value.CopyFrom(value_to_proto(item.value))
    return message


def value_to_proto(value: PlainValue) -> config_pb2.Value:
    """Return a plain value as a message, with its type."""
    match value:
        case None:
            return config_pb2.Value()
        case bool():
            return config_pb2.Value(bool_value=value)
        case int():
            return config_pb2.Value(int_value=value)
        case float():
            return config_pb2.Value(double_value=value)
        case str():
            return config_pb2.Value(string_value=wire.text_of(value))
        case _:
            values = config_pb2.ListValue(values=map(value_to_proto, value))
            return config_pb2.Value(list_value=values)


def unicode_of(value: PlainValue) -> PlainValue:
    """Return a plain value whose texts have no lone surrogates, which databases do not take either."""
    match value:
        case str():
            return wire.unicode_of(value)
        case list() | tuple():
            return [unicode_of(v) for v in value]
    return value


def value_from_proto(value: config_pb2.Value) -> PlainValue:
    """Return the plain value; a message without one is None."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [value_from_proto(v) for v in value.list_value.values]
    return None if kind is None else getattr(value, kind)


def timestamp(time_ns: int) -> Timestamp | None:
    """Return nanoseconds since 1970 UTC as a message, None for 0."""
    return Timestamp(seconds=time_ns // 10**9, nanos=time_ns % 10**9) if time_ns else None
