"""What configs set of an optimizer or a scheduler, apart from what training has made of it.

A state dict mixes both: a learning rate that the configs gave and a schedule has lowered, a momentum,
moments of gradients. Three states tell them apart: as it was built then, as it was saved, and as it
is built now. What is built as it was then is taken from the checkpoint to the last bit; what the
configs have changed is taken from them, with what training did to it since kept in proportion.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Mapping
from typing import Any

from lab_core.errors import LabError
from lab_core.experiment._generators import OwnGenerator

_LEAVES = (bool, int, float, complex, str, bytes, type(None))


class NotCarriedOver(LabError):
    """A changed option cannot go on from the state that was saved; the sentence says why."""


def kind_of(value: object) -> str | None:
    """Return the class of what only the same class can go on with; None for a model, whose shapes tell."""
    if _is_a("torch.nn", "Module", value):
        return None
    return f"{type(value).__module__}.{type(value).__qualname__}"


def options_of(value: Any) -> Any:
    """Return the plain part of a state dict as it is now: options and counters, no data.

    Nothing is plain of an object that cannot say its state yet: what is wrong is told when it is saved.
    """
    if _is_a("torch.nn", "Module", value) or isinstance(value, OwnGenerator):
        return {}
    if _is_a("torch.optim", "Optimizer", value):
        return {"param_groups": [_group_options(group) for group in value.param_groups]}
    try:
        return _plain_part(value.state_dict())
    except Exception:
        return {}


def carried_over(value: Any, saved: Any, then: Any, now: Any) -> Any:
    """Return the state to load into an object that was built as `now` says.

    Args:
        value: what the state is for.
        saved: its state dict in the checkpoint.
        then: ``options_of`` the object that was saved, when it had just been built.
        now: ``options_of`` this one, when it had just been built.

    Raises:
        NotCarriedOver: If an optimizer could not take a step so.
    """
    if _is_same(then, now):
        return saved
    if not _is_a("torch.optim", "Optimizer", value):
        return _merge(saved, then, now)
    groups = zip(saved["param_groups"], then["param_groups"], now["param_groups"], strict=False)
    merged = {**saved, "param_groups": [_merge_group(*three) for three in groups]}
    merged["param_groups"] += saved["param_groups"][len(merged["param_groups"]) :]
    if _is_a("torch.optim", "LBFGS", value):
        merged["state"] = _with_history(merged)
    _check_step(value, merged)
    return merged


def patched(built: Any, before: Any, after: Any) -> Any:
    """Return options as built, with what building something else has changed of them since.

    Args:
        built: ``options_of`` an object, when it had just been built.
        before: the same, before something else was built, a scheduler say.
        after: the same, after that.
    """
    if _is_same(before, after):
        return built
    if all(isinstance(options, Mapping) for options in (built, before, after)):
        return {
            key: patched(built[key], before[key], item) if key in built and key in before else item
            for key, item in after.items()
        }
    if all(isinstance(options, list) for options in (built, before, after)):
        lengths = {len(built), len(before), len(after)}
        if len(lengths) == 1:
            return [*map(patched, built, before, after)]
    return after


def _is_a(module: str, name: str, value: object) -> bool:
    # nothing that a module defines exists before it is imported
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _group_options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain_part(item) for key, item in group.items() if key != "params"}


def _plain_part(value: Any) -> Any:
    """Return a copy without what is not plain: None stands where it was in a sequence."""
    if isinstance(value, _LEAVES):
        return value
    if isinstance(value, Mapping):
        kept = {k: _plain_part(v) for k, v in value.items() if _has_plain_part(v)}
        is_copied = isinstance(value, dict) and len(kept) == len(value) and _is_plain(value)
        return copy.deepcopy(value) if is_copied else kept
    if isinstance(value, list | tuple):
        return [*map(_plain_part, value)] if type(value) is list else tuple(map(_plain_part, value))
    return value.item() if _has_item(value) else None


def _has_plain_part(value: Any) -> bool:
    return isinstance(value, (*_LEAVES, Mapping, list, tuple)) or _has_item(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _LEAVES)


def _has_item(value: Any) -> bool:
    """Whether it is one number of numpy, or a tensor of one, as a learning rate may be."""
    return _is_a("numpy", "generic", value) or (
        _is_a("torch", "Tensor", value) and value.dim() == 0
    )


def _merge_group(
    saved: Mapping[str, Any], then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    merged: dict[str, Any] = _merge(saved, then, now)
    base, new = then.get("initial_lr"), now.get("initial_lr")
    # a warm-up from 0 is 0 with any base; the base tells
    if not then.get("lr") and not now.get("lr") and base and new:
        merged["lr"] = _scaled(saved["lr"], base, new)
    return merged


def _merge(saved: Any, then: Any, now: Any) -> Any:
    if _is_same(then, now):
        return saved
    if isinstance(saved, Mapping) and isinstance(then, Mapping) and isinstance(now, Mapping):
        if _is_same(saved, then):
            return now
        merged = {
            key: _merge(item, then[key], now[key]) if key in then and key in now else item
            for key, item in saved.items()
        }
        return {**merged, **{key: item for key, item in now.items() if key not in saved}}
    if isinstance(saved, list | tuple) and not _is_same(saved, then):
        lengths = {len(items) if isinstance(items, list | tuple) else -1 for items in (then, now)}
        if lengths == {len(saved)}:
            return type(saved)(map(_merge, saved, then, now))
    if _is_a("torch", "Tensor", saved) and saved.dim() == 0:
        import torch

        return torch.full_like(saved, _merge(saved.item(), then, now))
    if _is_a("numpy", "number", saved):
        return type(saved)(_merge(saved.item(), then, now))
    if _is_same(saved, then):
        return now
    if all(isinstance(n, int | float) and not isinstance(n, bool) for n in (saved, then, now)):
        return _scaled(saved, then, now) if then else now
    return now


def _scaled(saved: Any, then: float, now: float) -> Any:
    """Return the new value with what was done to the old one since, in proportion."""
    return now if isinstance(saved, int) else saved * (now / then)


def _is_same(some: Any, other: Any) -> bool:
    if isinstance(some, Mapping) and isinstance(other, Mapping):
        return some.keys() == other.keys() and all(_is_same(some[k], other[k]) for k in some)
    if isinstance(some, list | tuple) and isinstance(other, list | tuple):
        return len(some) == len(other) and all(map(_is_same, some, other))
    if isinstance(some, float) and isinstance(other, float) and math.isnan(some):
        return math.isnan(other)
    if any(_is_a("torch", "Tensor", it) or _is_a("numpy", "ndarray", it) for it in (some, other)):
        return some is other
    return bool(some == other)


def _with_history(merged: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the state of LBFGS with no longer a history than its option now says: the latest of it."""
    (group,) = merged["param_groups"]  # it has no more
    size = int(group["history_size"])
    fitted = {}
    for index, state in merged["state"].items():
        # "al" is scratch of the old length, which a step makes anew
        fitted[index] = {key: item for key, item in state.items() if key != "al"}
        for key in ("old_dirs", "old_stps", "ro"):
            if state.get(key):
                fitted[index][key] = state[key][max(len(state[key]) - size, 0) :]
    return fitted


def _check_step(optimizer: Any, merged: Mapping[str, Any]) -> None:
    """Let a stand-in take a step from each kind of state: an option may need what was not kept."""
    import torch

    for group in merged["param_groups"]:
        index = next((i for i in group["params"] if i in merged["state"]), None)
        if index is None:
            continue
        options = {key: item for key, item in group.items() if key != "params"}
        parameter = torch.nn.Parameter(torch.zeros(1, 1))
        parameter.grad = torch.zeros(1, 1)
        try:
            stand_in = type(optimizer)([{**options, "params": [parameter]}])
        except Exception:  # noqa: S112 - made in another way than torch's own: only training will tell
            continue
        stand_in.state[parameter] = {
            key: torch.zeros(1, 1) if _is_a("torch", "Tensor", item) and item.dim() else item
            for key, item in copy.deepcopy(merged["state"][index]).items()
        }
        try:
            stand_in.step()
        except KeyError as error:
            raise NotCarriedOver(f"what it needs now, {error}, was not kept then") from error
        except Exception:  # noqa: S112 - of the stand-in, which is no real parameter
            continue
