"""Gradients in a checkpoint: what the rest of an iteration may still read, a histogram of them, say.

Between two batches they are of no use: the next one drops them, or an object keeps them that
accumulates them on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab_core.experiment._options import kind_of


def gradients_of(stateful: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the gradients of all models, by the models' names and the parameters'."""
    found = {}
    for name, value in stateful.items():
        if kind_of(value) is None:
            parameters = value.named_parameters()
            gradients = {key: one.grad for key, one in parameters if one.grad is not None}
            if gradients:
                found[name] = gradients
    return found


def restore_gradients(stateful: Mapping[str, Any], gradients: Mapping[str, Any]) -> None:
    """Give the parameters the gradients that ``gradients_of`` has returned."""
    for name, saved in gradients.items():
        for key, parameter in stateful[name].named_parameters():
            if key in saved:
                parameter.grad = saved[key].to(parameter.device)
