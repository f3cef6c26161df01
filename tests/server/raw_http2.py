"""Calls that no gRPC library would make, frame by frame (RFC 9113, with headers as in RFC 7541 6.2.2)."""

from __future__ import annotations

import asyncio

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


async def call(
    address: str, path: str, *headers: tuple[bytes, bytes], message: bytes | None = b""
) -> str:
    """Make a unary call; return "answered", "reset" or "closed".

    Args:
        address: the server's host and port.
        path: the method's, /package.Service/Method.
        headers: beside those that gRPC needs.
        message: the request, None for a stream that ends without one.
    """
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        block = b"".join(
            _literal(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", path.encode()),
                (b":authority", b"test"),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                *headers,
            )
        )
        end = _END_STREAM if message is None else 0
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0))
        writer.write(_frame(_HEADERS, _END_HEADERS | end, 1, block))
        if message is not None:
            prefixed = b"\0" + len(message).to_bytes(4, "big") + message
            writer.write(_frame(_DATA, _END_STREAM, 1, prefixed))
        while True:
            try:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
            except asyncio.IncompleteReadError:
                return "closed"
            kind, flags = head[3], head[4]
            if kind == _SETTINGS and not flags & _ACK:
                writer.write(_frame(_SETTINGS, _ACK, 0))
            elif kind == _HEADERS and flags & _END_STREAM:
                return "answered"
            elif kind in (_RST_STREAM, _GOAWAY):
                return "reset"
    finally:
        writer.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def _literal(name: bytes, value: bytes) -> bytes:
    assert len(name) < 127
    assert len(value) < 127
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value
