"""A large tensor as the few numbers that its histogram needs: computed where the tensor is, without waiting.

A model's parameters and gradients are thus never copied as a whole. torch is imported by who has a tensor.
"""

from __future__ import annotations

from typing import Any

from lab_core.writers.summaries import NUM_BINS

_PART = 1 << 20  # elements that are looked at together: what they need for a moment is 50 MB


def digest(torch: Any, tensor: Any) -> Any:
    """Return what `writers.summaries.Digest` holds, as one tensor of float64 [7 + NUM_BINS], or float32 on MPS."""
    dtype = torch.float32 if tensor.device.type == "mps" else torch.float64
    parts = tensor.detach().reshape(-1).split(_PART)
    low, high, *sums = _moments(torch, parts, dtype)
    counts = _counts(torch, parts, low, high)
    return torch.cat([torch.stack([low, high, *sums]), counts.to(dtype)])


def _moments(torch: Any, parts: Any, dtype: Any) -> list[Any]:
    """Return least and largest, sum, sum of the finite, of their squares, and the numbers of NaN and infinities."""
    found = []
    for part in parts:
        values = part.to(dtype)
        is_finite = values.isfinite()
        finite = values.where(is_finite, 0)
        num_nan = values.isnan().sum()
        found.append(
            torch.stack(
                [
                    values.where(is_finite, torch.inf).amin(),
                    values.where(is_finite, -torch.inf).amax(),
                    values.sum(),
                    finite.sum(),
                    finite.square().sum(),
                    num_nan,
                    (~is_finite).sum() - num_nan,
                ]
            )
        )
    each = torch.stack(found)
    return [each[:, 0].amin(), each[:, 1].amax(), *each[:, 2:].sum(0)]


def _counts(torch: Any, parts: Any, low: Any, high: Any) -> Any:
    """Return how many finite values are in each bin: from its bound up to the next, the last one inclusive."""
    steps = torch.arange(NUM_BINS + 1, dtype=low.dtype, device=low.device) / NUM_BINS
    bounds = torch.lerp(low, high, steps)
    num_below = torch.zeros(NUM_BINS + 1, dtype=torch.int64, device=low.device)
    for part in parts:
        values = part.to(low.dtype)
        finite = values.where(values.isfinite(), torch.nan)  # NaN is below nothing
        num_below[1:-1] += (finite < bounds[1:-1, None]).sum(1)
        num_below[-1] += values.isfinite().sum()
    return num_below.diff()
