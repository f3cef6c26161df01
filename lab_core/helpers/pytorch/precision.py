"""The numbers of the forward pass: those of the model, or mixed with shorter ones where that is safe."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lab_core.configs import BaseConfigs

__all__ = ["MixedPrecision", "Precision", "PrecisionConfigs", "ScaledPrecision"]


class Precision:
    """Trains with the numbers of the model."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass and the loss."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        loss.backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the loss, before they are clipped."""

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters."""
        optimizer.step()


class MixedPrecision(Precision):
    """Computes in a shorter type where ``torch.autocast`` considers that safe.

    Args:
        device: of the model.
        dtype: the shorter type.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass and the loss."""
        return torch.autocast(self.device.type, self.dtype)


class ScaledPrecision(MixedPrecision):
    """Also scales the loss, for types in which small gradients would become 0.

    An update whose gradients are not finite is skipped, and the scale is lowered. The scale is in
    checkpoints.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(device, dtype)
        self.scaler = torch.amp.GradScaler(device.type)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the loss, before they are clipped."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters if all gradients are finite, and adapt the scale."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and since when it holds."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the scale of a checkpoint."""
        self.scaler.load_state_dict(state)


class PrecisionConfigs(BaseConfigs):
    """`precision`: full, or mixed with bfloat16 or float16."""

    # the device of the model
    device: torch.device
    # numbers of the forward pass: the model's (full), or mixed with bfloat16 or float16
    precision: Precision


@PrecisionConfigs.calc(PrecisionConfigs.precision)
def full() -> Precision:
    return Precision()


@PrecisionConfigs.calc(PrecisionConfigs.precision)
def mixed_bfloat16(c: PrecisionConfigs) -> Precision:
    return MixedPrecision(c.device, torch.bfloat16)


@PrecisionConfigs.calc(PrecisionConfigs.precision)
def mixed_float16(c: PrecisionConfigs) -> Precision:
    return ScaledPrecision(c.device, torch.float16)
