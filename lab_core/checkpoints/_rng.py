"""The random number generators of a process, as tensors and plain data."""

from __future__ import annotations

import random
from typing import Any


def rng_state() -> dict[str, Any]:
    """Return the states of python's, numpy's and torch's generators, CUDA's where it is used."""
    import numpy as np
    import torch

    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, numpy_words, *rest = numpy_state
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        # torch loads tensors without being told that they are safe, numpy's arrays it does not
        "numpy": [name, torch.from_numpy(numpy_words.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    # asking an uninitialised CUDA for its state would initialise it
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Set the generators to what ``rng_state`` returned."""
    import numpy as np
    import torch

    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, words_tensor, *rest = state["numpy"]
    np.random.set_state((name, words_tensor.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    cuda_states = state.get("cuda")
    if cuda_states and torch.cuda.is_available():
        # a run may be resumed where there are fewer devices
        torch.cuda.set_rng_state_all(cuda_states[: torch.cuda.device_count()])
