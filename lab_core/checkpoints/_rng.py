"""The random number generators of a process: python's, numpy's, torch's, and CUDA's where it is used.

That of a library that nobody has imported is left out: nothing was drawn from it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The states of all generators at one moment; cheap to take and to compare."""

    python: Any
    numpy: Any
    torch: Any
    cuda: Any

    @classmethod
    def take(cls) -> Snapshot:
        """Return the states as they are now."""
        numpy_state = torch_state = cuda_states = None
        if "numpy" in sys.modules:
            import numpy as np

            numpy_state = np.random.get_state(legacy=True)
        if "torch" in sys.modules:
            import torch

            torch_state = torch.get_rng_state()
            # asking an uninitialised CUDA for its state would initialise it
            if torch.cuda.is_initialized():
                cuda_states = torch.cuda.get_rng_state_all()
        return cls(random.getstate(), numpy_state, torch_state, cuda_states)

    def differences(self, other: Snapshot) -> frozenset[str]:
        """Return the names of the generators whose states differ, of those that both have."""
        found = set()
        if self.python != other.python:
            found.add("python")
        if self.numpy is not None and other.numpy is not None:
            name, words, *rest = self.numpy
            other_name, other_words, *other_rest = other.numpy
            if (name, rest) != (other_name, other_rest) or (words != other_words).any():
                found.add("numpy")
        if _differ([self.torch], [other.torch]):
            found.add("torch")
        if _differ(self.cuda or (), other.cuda or ()):
            found.add("cuda")
        return frozenset(found)

    def to_plain(self) -> dict[str, Any]:
        """Return the states as plain data and tensors."""
        import torch

        version, words, gauss = self.python
        state: dict[str, Any] = {"python": [version, torch.tensor(words), gauss]}
        if self.numpy is not None:
            name, numpy_words, *rest = self.numpy
            state["numpy"] = [name, torch.tensor(numpy_words.tolist()), *rest]
        if self.torch is not None:
            state["torch"] = self.torch
        if self.cuda is not None:
            state["cuda"] = self.cuda
        return state

    @classmethod
    def from_plain(cls, state: dict[str, Any]) -> Snapshot:
        """Return what ``to_plain`` made plain."""
        version, words, gauss = state["python"]
        numpy_state = None
        if "numpy" in state:
            import numpy as np

            name, numpy_words, *rest = state["numpy"]
            numpy_state = (name, np.array(numpy_words.tolist(), dtype=np.uint32), *rest)
        python_state = (version, tuple(words.tolist()), gauss)
        return cls(python_state, numpy_state, state.get("torch"), state.get("cuda"))

    def restore(self) -> None:
        """Set the generators to these states."""
        random.setstate(self.python)
        if self.numpy is not None:
            import numpy as np

            np.random.set_state(self.numpy)
        if self.torch is not None:
            import torch

            torch.set_rng_state(self.torch)
            if self.cuda and torch.cuda.is_available():
                # a run may be resumed where there are fewer devices
                torch.cuda.set_rng_state_all(self.cuda[: torch.cuda.device_count()])


def _differ(some: Iterable[Any], others: Iterable[Any]) -> bool:
    pairs = zip(some, others, strict=False)
    return any(a is not None and b is not None and bool((a != b).any()) for a, b in pairs)
