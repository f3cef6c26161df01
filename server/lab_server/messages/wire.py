"""The protobuf wire format, as far as encoded events are taken apart and put together by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
BYTES: Final = 2

MAX_TEXT_CHARS: Final = 256 << 10


def varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    if number < 0x80:
        return number.to_bytes(1, "little")
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    if number < 0x200000:
        return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """Encode what stands before a field."""
    return varint(number << 3 | wire_type)


def message(tag: bytes, body: bytes) -> bytes:
    """Return a message, or other bytes, as the field of another message."""
    return b"".join((tag, varint(len(body)), body))


def text_of(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """Return text that a message takes: of bounded length, without lone surrogates."""
    if len(text) > max_chars:
        text = f"{text[:max_chars]} … [{len(text) - max_chars} more characters]"
    return unicode_of(text)


def unicode_of(text: str) -> str:
    """Return text without lone surrogates, which names of files may have."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def fields(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield number and position after the tag of each top-level field.

    Raises:
        IndexError: If the message is cut off.
        ValueError: If it is, or is none.
    """
    position = 0
    while position < len(payload):
        tag, position = _read_varint(payload, position)
        yield tag >> 3, position
        match tag & 7:
            case 0:
                _, position = _read_varint(payload, position)
            case 1:
                position += 8
            case 2:
                length, position = _read_varint(payload, position)
                position += length
            case 5:
                position += 4
            case wire_type:
                problem = f"wire type {wire_type} at byte {position} of an event"
                raise ValueError(problem)
    if position > len(payload):
        problem = f"a field of an event ends at byte {position} of {len(payload)}"
        raise ValueError(problem)


def bytes_at(payload: bytes, position: int) -> tuple[int, int]:
    """Return where the bytes of a field begin and end that is of the type BYTES."""
    length, start = _read_varint(payload, position)
    return start, start + length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
