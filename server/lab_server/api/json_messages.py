"""Messages as JSON and back: what the HTTP API writes and reads.

Fields have the names of the proto, enums the names of their values without the enum's prefix, times are
RFC 3339, whole numbers are numbers. JSON has no NaN and no infinities: a number that is none is the text
"NaN", "Infinity" or "-Infinity"; bytes are base64; as a value of a config, which may be text, {"float": "NaN"}. All fields are
written; what is unset and may be so is null.
"""

from __future__ import annotations

import base64
import difflib
import math
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lab_core.errors import Violation
from lab_rpc.v1 import config_pb2
from lab_server.errors import InvalidRequest
from lab_server.messages.values import value_from_proto, value_to_proto

# protobuf's descriptors are of two implementations, and their stubs do not fit each other
Field = Any
MessageType = Any
EnumType = Any

VALUE: Final = config_pb2.Value.DESCRIPTOR.full_name
TIMESTAMP: Final = "google.protobuf.Timestamp"
NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")

_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_MAX_DEPTH: Final = 20
_MAX_VIOLATIONS: Final = 50


def integer_range(field: Field) -> tuple[int, int] | None:
    """Return the least and the largest value of a field of whole numbers, None for another field."""
    return _INTEGERS.get(field.type)


def is_map(field: Field) -> bool:
    """Whether a field is a map, which JSON writes as an object."""
    entry = field.message_type
    return bool(entry is not None and entry.GetOptions().map_entry)


def enum_names(enum: EnumType) -> list[str]:
    """Return the JSON names of an enum's values, without the one for "unset"."""
    return [_enum_name(enum, value.number) for value in enum.values if value.number]


def to_json(message: Message) -> Any:
    """Return a message as what JSON knows."""
    descriptor = message.DESCRIPTOR
    if descriptor.full_name == VALUE:
        return _value_to_json(message)
    if descriptor.full_name == TIMESTAMP:
        return message.ToJsonString()  # type: ignore[attr-defined]
    return {field.name: _field_to_json(message, field) for field in descriptor.fields}


def from_json(message: Message, data: Any) -> None:
    """Fill a message from JSON.

    Raises:
        InvalidRequest: With everything in it that does not fit the message.
    """
    reader = _Reader()
    reader.fill(message, data, "")
    if reader.violations:
        raise InvalidRequest(reader.violations)


def _field_to_json(message: Message, field: Field) -> Any:
    value = getattr(message, field.name)
    if is_map(field):
        of_value = field.message_type.fields_by_name["value"]
        return {key: _one_to_json(of_value, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return [_one_to_json(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    if field.enum_type is not None and not value:
        return None
    return _one_to_json(field, value)


def _one_to_json(field: Field, value: Any) -> Any:
    if field.message_type is not None:
        return to_json(value)
    if field.enum_type is not None:
        return _enum_name(field.enum_type, value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return number_to_json(value)
    return value


def number_to_json(value: float) -> float | str:
    """Return a number, or the name of one that JSON does not have."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def plain_to_json(value: Any) -> Any:
    """Return a config's value as what JSON knows."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": number_to_json(value)}
    if isinstance(value, list | tuple):
        return [plain_to_json(item) for item in value]
    return value


def _value_to_json(message: Any) -> Any:
    return plain_to_json(value_from_proto(message))


def _enum_name(enum: EnumType, number: int) -> str:
    # RUN_STATE_UNSPECIFIED is the first of RunState: RUN_STATE_ is the prefix of all
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    value = enum.values_by_number.get(number)
    return value.name.removeprefix(prefix) if value is not None else str(number)


class _Reader:
    """Fills messages from JSON and collects what is wrong."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def fill(self, message: Message, data: Any, path: str, depth: int = 0) -> None:
        if not isinstance(data, Mapping):
            self._add(path, f"must be an object, got {_kind(data)}")
            return
        fields = message.DESCRIPTOR.fields_by_name
        for name, value in data.items():
            where = f"{path}.{name}" if path else name
            field = fields.get(name)
            if field is None:
                self._unknown(where[:200], name, message.DESCRIPTOR)
            elif value is not None:
                self._set(message, field, value, where, depth)

    def _set(self, message: Message, field: Field, value: Any, path: str, depth: int) -> None:
        if is_map(field):
            self._fill_map(message, field, value, path, depth)
        elif field.is_repeated:
            if not isinstance(value, list):
                self._add(path, f"must be a list, got {_kind(value)}")
                return
            target = getattr(message, field.name)
            for index, item in enumerate(value):
                place = f"{path}[{index}]"
                if field.message_type is not None:
                    self._inner(target.add(), item, place, depth + 1)
                elif (found := self._scalar(field, item, place)) is not None:
                    target.append(found)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._inner(inner, value, path, depth + 1)
        elif (found := self._scalar(field, value, path)) is not None:
            setattr(message, field.name, found)

    def _fill_map(self, message: Message, field: Field, value: Any, path: str, depth: int) -> None:
        if not isinstance(value, Mapping):
            self._add(path, f"must be an object, got {_kind(value)}")
            return
        target = getattr(message, field.name)
        for key, item in value.items():
            if not _is_text(key):
                self._add(path, "a key is not valid Unicode")
            else:
                self._inner(target[key], item, f"{path}.{key}"[:200], depth + 1)

    def _inner(self, message: Any, data: Any, path: str, depth: int) -> None:
        if message.DESCRIPTOR.full_name == VALUE:
            self._config_value(message, data, path)
        else:
            self.fill(message, data, path, depth)

    def _config_value(self, message: config_pb2.Value, data: Any, path: str) -> None:
        try:
            message.CopyFrom(value_to_proto(_plain(data)))
        except _NotAValueError as error:
            self._add(path, str(error))

    def _scalar(self, field: Field, value: Any, path: str) -> Any:
        """Return the field's value, None when it does not fit."""
        if field.enum_type is not None:
            return self._enum(field.enum_type, value, path)
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(value, path)
        if field.type == FieldDescriptor.TYPE_BOOL:
            if isinstance(value, bool):
                return value
            self._add(path, f"must be true or false, got {_kind(value)}")
            return None
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            if value in NOT_FINITE:
                return float(value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                try:
                    return float(value)
                except OverflowError:
                    return math.inf if value > 0 else -math.inf
            self._add(path, f"must be a number, got {_kind(value)}")
            return None
        return self._integer(field, value, path)

    def _integer(self, field: Field, value: Any, path: str) -> int | None:
        least, most = _INTEGERS[field.type]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self._add(path, f"must be a whole number, got {_kind(value)}")
        elif not least <= value <= most:
            self._add(path, f"must be between {least} and {most}")
        else:
            return value
        return None

    def _text(self, value: Any, path: str) -> str | None:
        if not isinstance(value, str):
            self._add(path, f"must be text, got {_kind(value)}")
        elif not _is_text(value):
            self._add(path, "is not valid Unicode")
        else:
            return value
        return None

    def _enum(self, enum: EnumType, value: Any, path: str) -> int | None:
        for found in enum.values:
            if found.number and _enum_name(enum, found.number) == value:
                return int(found.number)
        self._add(path, f"must be one of {', '.join(enum_names(enum))}, got {str(value)[:100]!r}")
        return None

    def _unknown(self, path: str, name: str, descriptor: MessageType) -> None:
        close = difflib.get_close_matches(name[:100], descriptor.fields_by_name, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        self._add(path, f"is not a field of this request{hint}")

    def _add(self, path: str, message: str) -> None:
        if len(self.violations) < _MAX_VIOLATIONS:
            path = path[:200].encode("utf-8", "replace").decode()
            self.violations.append(Violation(path, f"{path or 'the body'} {message}"))


class _NotAValueError(Exception):
    """JSON that no config can have as its value; says why."""


def _plain(data: Any, depth: int = 0) -> Any:
    """Return the config value that JSON stands for."""
    if depth > _MAX_DEPTH:
        raise _NotAValueError(f"may not be nested more than {_MAX_DEPTH} deep")
    if isinstance(data, Mapping):
        if list(data) == ["float"] and data["float"] in NOT_FINITE:
            return float(data["float"])
        raise _NotAValueError("must be a plain value or a list, got an object")
    if isinstance(data, list):
        return [_plain(item, depth + 1) for item in data]
    if isinstance(data, str) and not _is_text(data):
        raise _NotAValueError("is not valid Unicode")
    if isinstance(data, int) and not -(2**63) <= data < 2**63:
        raise _NotAValueError("has more than 64 bits")
    return data


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
