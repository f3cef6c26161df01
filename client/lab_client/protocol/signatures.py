"""Methods whose parameters are those of an operation: written once, and shown by both clients.

The body of such a method gets the operation that was made of what the caller gave, and only carries it out. To
type checkers, `help()` and an editor's completion the method has every parameter by name, with type and default.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

P = ParamSpec("P")
Self = TypeVar("Self")
Made = TypeVar("Made")
Result = TypeVar("Result")


def takes(
    make: Callable[P, Made],
) -> Callable[[Callable[[Self, Made], Result]], Callable[Concatenate[Self, P], Result]]:
    """Give a method the parameters of `make`, and its body what `make` makes of them."""

    def decorate(body: Callable[[Self, Made], Result]) -> Callable[Concatenate[Self, P], Result]:
        method = _method(body, make, num_own=0, own=lambda _self: ())
        return cast("Callable[Concatenate[Self, P], Result]", method)

    return decorate


def takes_rest(
    make: Callable[Concatenate[Any, P], Made], first: str
) -> Callable[[Callable[[Self, Made], Result]], Callable[Concatenate[Self, P], Result]]:
    """Do as `takes` for the method of a handle, which knows itself what `make` takes first.

    Args:
        make: makes what the body gets.
        first: the attribute of the handle that `make` takes first.
    """

    def decorate(body: Callable[[Self, Made], Result]) -> Callable[Concatenate[Self, P], Result]:
        method = _method(body, make, num_own=1, own=lambda handle: (getattr(handle, first),))
        return cast("Callable[Concatenate[Self, P], Result]", method)

    return decorate


def parameters_of(
    method: Callable[Concatenate[Any, P], Any],
) -> Callable[[Callable[..., Result]], Callable[P, Result]]:
    """Give a function the parameters of a method, to which it passes them on."""

    def decorate(function: Callable[..., Result]) -> Callable[P, Result]:
        _show(function, list(inspect.signature(method).parameters.values())[1:])
        return function

    return decorate


def _method(
    body: Callable[[Any, Any], Any],
    make: Callable[..., Any],
    *,
    num_own: int,
    own: Callable[[Any], tuple[Any, ...]],
) -> Callable[..., Any]:
    given = list(inspect.signature(make).parameters.values())[num_own:]
    to_bind = inspect.Signature(given)

    def made(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            to_bind.bind(*args, **kwargs)
        except TypeError as error:  # the caller knows the method, not what makes the operation
            raise TypeError(f"{body.__qualname__}() {error}") from None
        return make(*own(self), *args, **kwargs)

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return body(self, made(self, args, kwargs))

    async def awaited(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return await body(self, made(self, args, kwargs))

    shown = awaited if inspect.iscoroutinefunction(body) else method
    functools.update_wrapper(shown, body)
    _show(shown, [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *given])
    return shown


def _show(function: Any, parameters: list[inspect.Parameter]) -> None:
    shown = inspect.signature(function)
    function.__signature__ = shown.replace(parameters=parameters)
    named = {p.name: p.annotation for p in parameters if p.annotation is not p.empty}
    function.__annotations__ = {**named, "return": shown.return_annotation}
