"""Check tracked values, and hold them from `add` until their batch is written.

Imports neither torch nor numpy: a caller that has a tensor has imported them.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from lab_core.errors import TrackerError

_IMAGE_CHANNELS = (1, 3, 4)
_BIG = 1 << 20
_MANY = 1 << 16  # of a larger tensor, a histogram keeps its digest


@dataclass(slots=True)
class DeviceValue:
    """A copy of a tensor that is still on its device: fetched when its batch is written.

    Attributes:
        tensor: detached, and never changed.
        stream: the stream that the copy was made on; None if the device has none.
        is_used: whether this process has created any; if not, batches need not look for them.
    """

    is_used: ClassVar[bool] = False
    tensor: Any
    stream: Any

    def __post_init__(self) -> None:
        DeviceValue.is_used = True


def quick_number(value: object) -> float | None:
    """Return the number in a CPU tensor of one element, None of anything else."""
    torch = sys.modules.get("torch")
    if torch is None or type(value) is not torch.Tensor:
        return None
    tensor: Any = value
    if tensor.is_cpu and tensor.numel() == 1:
        number = tensor.item()
        return number if type(number) is float else None
    return None


def numbers(name: str, value: object) -> list[Any]:
    """Return `value` as floats, numpy arrays and device values, copied where the caller may change it.

    Raises:
        TrackerError: If it is not made of real numbers, or holds none.
    """
    if isinstance(value, (float, int)):
        return [_as_float(name, value)]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return [_tensor(torch, name, value)]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return [_array(name, value)]
    if isinstance(value, (list, tuple)):
        held = [number for item in value for number in numbers(name, item)]
        if not held:
            raise TrackerError(
                f"{name!r} got an empty {type(value).__name__}: there is nothing to track"
            )
        return held
    return [_as_float(name, value)]


def spread(name: str, value: object) -> list[Any]:
    """Return `value` as `numbers` does, a large tensor as its digest: for a histogram of what comes until a save.

    Raises:
        TrackerError: If it is not made of real numbers, or holds none.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or value.numel() <= _MANY:
        return numbers(name, value)
    from lab_core.tracker.digests import digest

    _check_numbers(name, value, torch)
    return [(value.numel(), _tensor(torch, name, digest(torch, value)))]


def indexed(name: str, value: object) -> list[Any]:
    """Return pairs (index, number) of one pair, a list of pairs, or a pair of sequences."""
    pairs = _pairs(name, value)
    if not pairs:
        raise TrackerError(f"{name!r} got no values: there is nothing to track")
    return pairs


def _pairs(name: str, value: object) -> list[Any]:
    wanted = TrackerError(
        f"the indexed scalar {name!r} takes (index, value), a list of such pairs, or "
        f"(indices, values) of one length; got {_short(value)}"
    )
    if isinstance(value, tuple) and len(value) == 2:
        indices, values = (_plain_sequence(part) for part in value)
        if len(indices) != len(values):
            raise wanted
        pairs: list[tuple[Any, Any]] = list(zip(indices, values, strict=True))
    elif isinstance(value, list) and all(
        isinstance(p, (tuple, list)) and len(p) == 2 for p in value
    ):
        pairs = [(p[0], p[1]) for p in value]
    else:
        raise wanted
    out: list[Any] = []
    for index, number in pairs:
        try:
            plain_index = operator.index(index)
        except TypeError:
            raise wanted from None
        if not -(2**63) <= plain_index < 2**63:
            raise wanted
        held = numbers(name, number)
        if len(held) != 1 or not isinstance(held[0], (float, DeviceValue)):
            raise wanted
        out.append((plain_index, held[0]))
    return out


def _plain_sequence(part: object) -> Sequence[object]:
    """Return the items of a list or of an array; anything else is one item."""
    if isinstance(part, (list, tuple)):
        return part
    if getattr(part, "ndim", 0) and hasattr(part, "tolist"):
        items: list[object] = part.tolist()
        return items
    return [part]


def texts(name: str, value: object) -> list[Any]:
    """Return the text in a list."""
    if not isinstance(value, str):
        raise TrackerError(f"the text {name!r} takes a str, got {_short(value)}")
    # Half a surrogate pair, as a tokenizer may cut it, is nothing that can be stored.
    return [value if value.isascii() else value.encode(errors="replace").decode()]


def images(name: str, value: object) -> list[Any]:
    """Return images as held arrays, each HW, HWC, CHW or a batch of those with three axes.

    Raises:
        TrackerError: If the shape or the type is not that of an image.
    """
    if isinstance(value, (list, tuple)):
        if not value:
            raise TrackerError(f"the image {name!r} got an empty {type(value).__name__}")
        return [held for item in value for held in images(name, item)]
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    shape: tuple[int, ...] = tuple(getattr(value, "shape", ()))
    is_tensor = torch is not None and isinstance(value, torch.Tensor)
    is_array = numpy is not None and isinstance(value, numpy.ndarray)
    if not (is_tensor or is_array) or not is_image_shape(shape):
        raise TrackerError(
            f"the image {name!r} takes an array or tensor with axes HW, CHW or HWC, or a batch "
            f"NCHW or NHWC, with 1, 3 or 4 channels; got {_short(value)}"
        )
    held = _tensor(torch, name, value, as_is=True) if is_tensor else _array(name, value, as_is=True)
    return [held]


def is_image_shape(shape: tuple[int, ...]) -> bool:
    """Tell whether these are the axes of an image, or of a batch of images."""
    if len(shape) not in (2, 3, 4) or 0 in shape:
        return False
    return len(shape) == 2 or shape[-3] in _IMAGE_CHANNELS or shape[-1] in _IMAGE_CHANNELS


def _as_float(name: str, value: object) -> float:
    # str has no __float__, but float() would read a number in it.
    if value is None or not hasattr(value, "__float__"):
        raise TrackerError(f"cannot track {name!r} = {_short(value)}: a number is expected")
    try:
        return float(value)
    except Exception as error:
        raise TrackerError(f"cannot track {name!r}, {_short(value)}: {error}") from error


def _array(name: str, value: Any, *, as_is: bool = False) -> Any:
    masked = sys.modules["numpy"].ma.MaskedArray
    if isinstance(value, masked):
        # what is masked is no value; an image needs its place, and shows it black
        value = value.filled(0) if as_is else value.compressed()
    if value.dtype.kind not in "biuf":
        raise TrackerError(
            f"cannot track {name!r}: an array of {value.dtype} does not hold numbers"
        )
    if value.size == 0:
        raise TrackerError(f"{name!r} got an empty array: there is nothing to track")
    if value.size == 1 and not as_is:
        return float(value.item())
    return value.copy()


def _tensor(torch: Any, name: str, value: Any, *, as_is: bool = False) -> Any:
    _check_numbers(name, value, torch)
    kind, num = value.device.type, value.numel()
    if num == 1 and kind == "cpu" and not as_is:
        return float(value.item())
    tensor = value.detach()
    dtype = _held_dtype(torch, tensor, num, as_is=as_is)
    # A copy, made on the device: the caller may change the tensor before the batch is written.
    tensor = tensor.to(dtype=dtype, copy=True)
    if kind == "cpu":
        return tensor.numpy()
    stream = torch.cuda.current_stream(tensor.device) if kind == "cuda" else None
    return DeviceValue(tensor, stream)


def _check_numbers(name: str, value: Any, torch: Any) -> None:
    """Raise what says that a tensor holds no real numbers."""
    if value.is_complex() or value.is_quantized or value.layout is not torch.strided:
        raise TrackerError(
            f"cannot track {name!r}: {_short(value)} does not hold plain real numbers"
        )
    if value.device.type == "meta":
        raise TrackerError(f"cannot track {name!r}: a tensor on the meta device holds no values")
    if value.numel() == 0:
        raise TrackerError(f"{name!r} got an empty tensor: there is nothing to track")


def _held_dtype(torch: Any, tensor: Any, num: int, *, as_is: bool) -> Any:
    """Return a dtype that loses nothing and that numpy knows too."""
    if as_is and not tensor.is_floating_point():
        return tensor.dtype if tensor.dtype in (torch.uint8, torch.bool) else torch.int64
    narrow = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8)
    if tensor.device.type == "mps" or (narrow and num > 1):
        return torch.float32
    return torch.float64


def fetch(held: Sequence[DeviceValue]) -> list[Any]:
    """Return the values as numpy arrays, all small ones of a device, stream and dtype in one transfer.

    Waits for the device; the training thread goes on meanwhile.
    """
    torch: Any = sys.modules["torch"]
    groups: dict[Any, list[int]] = {}
    for i, value in enumerate(held):
        # Big ones go by themselves: to join them would take their size again on the device.
        alone = i if value.tensor.numel() > _BIG else None
        key = (value.tensor.device, value.tensor.dtype, value.stream, alone)
        groups.setdefault(key, []).append(i)
    arrays: list[Any] = [None] * len(held)
    for (_, _, stream, _), places in groups.items():
        tensors = [held[i].tensor for i in places]
        # On the stream that made the copies: it alone knows when they are done.
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            parts = [tensor.reshape(-1) for tensor in tensors]
            flat = (torch.cat(parts) if len(parts) > 1 else parts[0]).cpu().numpy()
        start = 0
        for i, tensor in zip(places, tensors, strict=True):
            arrays[i] = flat[start : start + tensor.numel()].reshape(tuple(tensor.shape))
            start += tensor.numel()
    return arrays


def _short(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    try:
        text = repr(value)
    except Exception:  # of an int of thousands of digits, and of what a user's class may do
        return f"a value of type {type(value).__name__}"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def to_plain(pending: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return entries that are not saved yet as plain data, which a checkpoint may hold."""
    return {name: [entry[0], *map(_plain, entry[1:])] for name, entry in pending.items()}


def from_plain(pending: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return entries from what `to_plain` made of them."""
    return {name: [entry[0], *map(_unplain, entry[1:])] for name, entry in pending.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, DeviceValue):
        return _plain(fetch([value])[0])
    if isinstance(value, tuple):
        return [value[0], _plain(value[1])]
    if hasattr(value, "dtype"):
        return {
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "values": value.ravel().tolist(),
        }
    return value


def _unplain(value: Any) -> Any:
    if isinstance(value, list):
        return (value[0], _unplain(value[1]))
    if isinstance(value, dict):
        import numpy as np

        return np.asarray(value["values"], value["dtype"]).reshape(value["shape"])
    return value
