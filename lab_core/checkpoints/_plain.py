"""States as what torch reads back without running code: tensors and plain data, and nothing else.

What is neither, but can be said so, is wrapped on the way in and comes back as it was; the rest is
refused while the run still has it.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any

from lab_core.errors import CheckpointError

_MARK = "__lab__"
_FACTORIES: Mapping[str, Callable[[], Any]] = {
    factory.__name__: factory for factory in (bool, dict, float, int, list, set, str, tuple)
}
_NUMBERS: tuple[Callable[[Any], Any], ...] = (int, float, complex, bytes)
_ABOUT_TORCH = ("Size", "device", "dtype", "layout", "memory_format")


def encode(value: Any, where: str) -> Any:
    """Return a state as it is written.

    Args:
        value: the state.
        where: what it is called in an error.

    Raises:
        CheckpointError: If something in it could not be read back; the sentence names it.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return value
    if _is_torch(value):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # not what an enum makes of it
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.number | numpy.bool_ | numpy.ndarray):
        return _encode_numpy(value, where)
    for base in _NUMBERS:
        if isinstance(value, base):  # type: ignore[arg-type] # each is a class
            return base(value)  # of an enum
    if isinstance(value, Mapping):
        return _encode_mapping(value, where)
    if kind in (list, tuple):
        return kind(encode(item, f"{where}[{i}]") for i, item in enumerate(value))
    marked = _encode_known(value, where)
    if marked is None:
        raise CheckpointError(
            f"{where} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold; let "
            "state_dict return tensors, numbers, texts, lists and dicts"
        )
    return {_MARK: marked}


def decode(value: Any) -> Any:
    """Return what ``encode`` was given."""
    if type(value) in (list, tuple):
        return type(value)(map(decode, value))
    if not isinstance(value, dict):
        return value
    marked = value.get(_MARK)
    if marked is None:
        for key, item in value.items():
            value[key] = decode(item)  # in place: the dict may be of a kind of its own
        return value
    name, *content = marked
    return _DECODERS[name](*map(decode, content))


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    return isinstance(value, (torch.Tensor, *(getattr(torch, name) for name in _ABOUT_TORCH)))


def _encode_numpy(value: Any, where: str) -> Any:
    import numpy as np
    import torch

    if isinstance(value, np.generic):
        # of its own precision: the product of a float32 and a number of Python is a float32
        return {_MARK: ["scalar", value.item(), str(value.dtype)]}
    if isinstance(value, np.ma.MaskedArray):
        raise CheckpointError(
            f"{where} is a masked numpy array, which a checkpoint cannot hold; return its data and its "
            "mask from state_dict"
        )
    try:
        tensor = torch.from_numpy(np.array(value))
    except (TypeError, ValueError):
        raise CheckpointError(
            f"{where} is a numpy array of {value.dtype}, which a checkpoint cannot hold; numbers it can"
        ) from None
    return {_MARK: ["ndarray", tensor, str(value.dtype)]}


def _encode_mapping(value: Mapping[Any, Any], where: str) -> Any:
    items = {}
    for key, item in value.items():
        plain_key = encode(_plain_number(key), f"the key {key!r} of {where}")
        if plain_key == _MARK or isinstance(plain_key, dict):
            raise CheckpointError(f"{where} has the key {key!r}, which a checkpoint cannot hold")
        items[plain_key] = encode(item, f"{where}[{key!r}]")
    kind = type(value)
    if kind is OrderedDict:
        ordered = OrderedDict(items)
        vars(ordered).update(vars(value))  # a model's has its metadata there
        return ordered
    if isinstance(value, Counter):
        return {_MARK: ["Counter", items]}
    if isinstance(value, defaultdict):
        factory = value.default_factory
        name = getattr(factory, "__name__", "")
        if factory is not None and _FACTORIES.get(name) is not factory:
            raise CheckpointError(
                f"{where} is a defaultdict that makes {name or factory!r}, which a checkpoint cannot "
                "hold; return dict(...) from state_dict"
            )
        return {_MARK: ["defaultdict", None if factory is None else name, items]}
    return items


def _plain_number(key: Any) -> Any:
    """Return a number of numpy as Python's, to which it is equal as a key; anything else as it is."""
    numpy = sys.modules.get("numpy")
    return key.item() if numpy is not None and isinstance(key, numpy.number) else key


def _encode_known(value: Any, where: str) -> list[Any] | None:
    if isinstance(value, PurePath):
        return ["Path", str(value)]
    if isinstance(value, datetime):
        return ["datetime", value.isoformat()]
    if isinstance(value, date):
        return ["date", value.isoformat()]
    if isinstance(value, timedelta):
        return ["timedelta", value.days, value.seconds, value.microseconds]
    if isinstance(value, slice | range):
        parts = [value.start, value.stop, value.step]
        return [type(value).__name__, *(encode(part, where) for part in parts)]
    if type(value) in (set, frozenset, bytearray):
        return [type(value).__name__, encode(list(value), where)]
    if type(value) is deque:
        return ["deque", encode(list(value), where), value.maxlen]
    return None


def _ndarray(tensor: Any, dtype: str) -> Any:
    return tensor.numpy().astype(dtype, copy=False)


def _scalar(value: Any, dtype: str) -> Any:
    import numpy as np

    return np.dtype(dtype).type(value)


def _defaultdict(name: str | None, items: dict[Any, Any]) -> defaultdict[Any, Any]:
    return defaultdict(None if name is None else _FACTORIES[name], items)


_DECODERS: Mapping[str, Callable[..., Any]] = {
    "Counter": Counter,
    "Path": Path,
    "bytearray": bytearray,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "defaultdict": _defaultdict,
    "deque": deque,
    "frozenset": frozenset,
    "ndarray": _ndarray,
    "range": range,
    "scalar": _scalar,
    "set": set,
    "slice": slice,
    "timedelta": timedelta,
}
