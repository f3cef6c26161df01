"""One seed for every random number generator."""

from __future__ import annotations

import random
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Lt

from lab_core.configs import BaseConfigs

__all__ = ["SeedConfigs"]


_NUM_SEEDS = 2**32  # numpy's generator takes 32 bits


class SeedConfigs(BaseConfigs):
    """`set_seed`: seeds python, numpy and torch, on the CPU and the GPUs; put it first in a run order."""

    # seed of all random number generators; runs with the same seed are the same
    seed: Annotated[int, Ge(0), Lt(_NUM_SEEDS)] = 5
    # seeds the generators of python, numpy and torch; put it first in a run order
    set_seed: None


@SeedConfigs.calc(SeedConfigs.set_seed)
def set_seed(c: SeedConfigs) -> None:
    random.seed(c.seed)
    np.random.seed(c.seed)
    torch.manual_seed(c.seed)
