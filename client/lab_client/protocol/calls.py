"""A call of the service as a value, and several calls of which one needs the answers of others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from google.protobuf.message import Message

from lab_client.errors import InvalidRequest, Violation

P = ParamSpec("P")
T = TypeVar("T")
CallSequence = Generator["Operation[Any]", Any, T]
"""Several calls of which each needs the answers before it: yields them, returns what they make."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call.

    Attributes:
        rpc: the RPC's name.
        request: what is sent; for a stream of messages what begins it, for each try anew.
        parse: reads the answer.
        is_safe: whether it may be sent again when there was no answer: it only reads, sets a
            state whatever it was before, or carries an idempotency key.
    """

    rpc: str
    request: Message | Callable[[], Iterator[Message]]
    parse: Callable[[Any], T]
    is_safe: bool = True

    def to_send(self) -> Message | Iterator[Message]:
        """Return what gRPC is to be given."""
        return self.request() if callable(self.request) else self.request


def sendable(make: Callable[P, T]) -> Callable[P, T]:
    """Have what makes a call raise an error of this package for a value that cannot be sent.

    Raises:
        InvalidRequest: for a number that is too large or small, or a text that is none.
    """

    @functools.wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return make(*args, **kwargs)
        except ValueError as error:
            raise InvalidRequest([Violation("", f"this cannot be sent: {error}")]) from None

    return checked


def as_texts(tags: Iterable[str]) -> list[str]:
    """Return tags or names as a list; one alone need not be in one."""
    found = [tags] if isinstance(tags, str) or not isinstance(tags, Iterable) else list(tags)
    wrong = [item for item in found if not isinstance(item, str)]
    if wrong:
        sentence = f"tags and names are texts, such as ['best'], got {wrong[0]!r}"
        raise InvalidRequest([Violation("", sentence)])
    return found
