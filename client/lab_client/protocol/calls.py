"""A call of the service as a value, and several calls of which one needs the answers of others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from lab_client.errors import InvalidRequest, Violation

T = TypeVar("T")
CallSequence = Generator["Operation[Any]", Any, T]
"""Several calls of which each needs the answers before it: yields them, returns what they make."""
Request: TypeAlias = Message | Callable[[], Iterator[Message]]
"""What is sent; for a stream of messages what begins it, for each try anew."""


class Operation(Generic[T]):
    """One call.

    Args:
        rpc: the RPC's name.
        make: builds what is sent; is called here, once.
        parse: reads the answer.
        is_safe: whether it may be sent again when there was no answer: it only reads, sets a
            state whatever it was before, or carries an idempotency key.

    Raises:
        InvalidRequest: for a number that is too large or small, or a text that is none.
    """

    def __init__(
        self,
        rpc: str,
        make: Callable[[], Request],
        parse: Callable[[Any], T],
        *,
        is_safe: bool = True,
    ) -> None:
        self.rpc, self.parse, self.is_safe = rpc, parse, is_safe
        self._request = sendable(make)

    def to_send(self) -> Message | Iterator[Message]:
        """Return what gRPC is to be given."""
        return self._request() if callable(self._request) else self._request


def sendable(make: Callable[[], T]) -> T:
    """Return the message that `make` builds; the one place for values that no message can hold.

    Raises:
        InvalidRequest: for a number that is too large or small, or a text that is none.
    """
    try:
        return make()
    except ValueError as error:
        raise InvalidRequest([Violation("", f"this cannot be sent: {error}")]) from None


def as_texts(tags: Iterable[str]) -> list[str]:
    """Return tags or names as a list; one alone need not be in one."""
    found = [tags] if isinstance(tags, str) or not isinstance(tags, Iterable) else list(tags)
    wrong = [item for item in found if not isinstance(item, str)]
    if wrong:
        sentence = f"tags and names are texts, such as ['best'], got {wrong[0]!r}"
        raise InvalidRequest([Violation("", sentence)])
    return found
