"""What a state dict may hold: what was saved comes back, and the rest is refused when it is saved."""

from __future__ import annotations

import enum
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lab_core import checkpoints
from lab_core.errors import CheckpointError


class Colour(enum.IntEnum):
    RED = 1


def round_trip(folder: Path, state: Any) -> Any:
    path = checkpoints.save(folder, 1, {"thing": state}).path
    return checkpoints.load(path)["thing"]


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, 0.1, 1j, "text", b"bytes", (1, [2.0]), float("inf")),
        *(torch.float32, torch.device("cpu"), torch.Size([2, 3])),
        *(Path("a/b"), date(2026, 1, 2), timedelta(days=1, seconds=2)),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        *(slice(1, None, 2), range(3), {1, 2}, frozenset({1}), bytearray(b"x")),
        *(deque([1, 2], maxlen=3), Counter({3: 1}), OrderedDict(b=1, a=2)),
        {"nested": {"when": [date(2026, 1, 2)], 3: "number key"}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_can_be_said_plainly_comes_back_as_it_was(value: Any, tmp_path: Path) -> None:
    back = round_trip(tmp_path, {"value": value})["value"]
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value", [np.float64(0.1), np.float32(0.1), np.float16(0.1), np.int32(3), np.complex64(1j)]
)
def test_numpys_numbers_come_back_in_their_own_precision(value: Any, tmp_path: Path) -> None:
    back = round_trip(tmp_path, {"value": [value], value: 1})
    assert back["value"] == [value]
    assert type(back["value"][0]) is type(value)
    assert back[value] == 1


def test_an_enums_number_comes_back_as_pythons(tmp_path: Path) -> None:
    back = round_trip(tmp_path, {"value": Colour.RED})["value"]
    assert back == 1
    assert type(back) is int


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint16", "bool", "complex128"])
def test_numpy_arrays_come_back_as_such(dtype: str, tmp_path: Path) -> None:
    value = np.array([[1, 0], [3, 4]], dtype=dtype)
    back = round_trip(tmp_path, {"value": value})["value"]
    assert isinstance(back, np.ndarray)
    assert back.dtype == value.dtype
    assert np.array_equal(back, value)


def test_a_defaultdict_makes_values_again_when_it_is_back(tmp_path: Path) -> None:
    value: defaultdict[str, list[int]] = defaultdict(list, a=[1])
    back = round_trip(tmp_path, value)
    assert back == value
    assert back["new"] == []


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"a": {"b": [1, object()]}}, r"thing\['a'\]\['b'\]\[1\] is a builtins.object"),
        ({"lock": threading.Lock()}, r"thing\['lock'\]"),
        ({"of objects": np.array([object()])}, r"thing\['of objects'\] is a numpy array of object"),
        ({"m": np.ma.array([1, 2], mask=[False, True])}, r"thing\['m'\] is a masked numpy array"),
        ({"f": defaultdict(lambda: 0)}, r"thing\['f'\] is a defaultdict"),
        ({("a", object()): 1}, r"the key \('a', <object"),
        ({"__lab__": 1}, "__lab__"),
    ],
    ids=["object", "lock", "array of objects", "masked array", "defaultdict", "key", "mark"],
)
def test_what_could_not_be_read_back_is_refused_when_it_is_saved(
    state: Any, named: str, tmp_path: Path
) -> None:
    before = checkpoints.save(tmp_path, 1, {"thing": {"w": 1}}).path
    with pytest.raises(CheckpointError, match=named):
        checkpoints.save(tmp_path, 1, {"thing": state})
    assert checkpoints.load(before) == {"thing": {"w": 1}}, "what was there before still is"
    assert [path.name for path in tmp_path.iterdir()] == ["1"], "nothing temporary is left"


def test_a_tensor_that_torch_would_not_read_back_is_refused_when_it_is_saved(
    tmp_path: Path,
) -> None:
    class Strange(torch.Tensor):
        pass

    with pytest.raises(CheckpointError, match="'thing'"):
        checkpoints.save(tmp_path, 1, {"thing": {"w": torch.zeros(2).as_subclass(Strange)}})
    assert list(tmp_path.iterdir()) == []
