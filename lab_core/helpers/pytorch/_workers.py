"""Worker processes of a data loader that are started once and live for all epochs.

torch seeds a worker when it starts. One that lives longer is seeded with each batch instead, so what random
transforms draw depends on the epoch's seed and the batch alone: a resumed epoch draws the same.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

__all__ = ["KeptWorkers"]


@dataclass(frozen=True, slots=True)
class _Batch:
    indices: list[int]
    seed: int


class _Seeded:
    """A data set that seeds all generators before it makes a batch; in all else the one that it wraps."""

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "_dataset", dataset)

    def __reduce__(self) -> Any:
        return _Seeded, (self._dataset,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)  # as a worker_init_fn may

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, batch: _Batch) -> list[Any]:
        random.seed(batch.seed)
        torch.manual_seed(batch.seed)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(batch.seed % 2**32)
        get_many = getattr(self._dataset, "__getitems__", None)
        if get_many is not None:
            many: list[Any] = get_many(batch.indices)
            return many
        return [self._dataset[index] for index in batch.indices]


class KeptWorkers:
    """Makes batches in workers, the same ones in each epoch.

    Args:
        dataset: a map-style data set.
        options: of ``DataLoader``, with `num_workers` above 0.
    """

    def __init__(self, dataset: Any, options: dict[str, Any]) -> None:
        self.is_busy = False
        self._sampler: list[_Batch] = []  # DataLoader iterates over it at the start of an epoch
        self._loader: DataLoader[Any] = DataLoader(
            _Seeded(dataset),  # type: ignore[arg-type]
            batch_sampler=self._sampler,  # type: ignore[arg-type]
            # its own, as DataLoader would draw a number from the global one
            generator=torch.Generator(),
            **{"persistent_workers": True, **options},
        )

    def batches(self, parts: Sequence[list[int]], seed: int, first: int) -> Iterator[Any]:
        """Yield the batches of these indices; one iteration at a time.

        Args:
            parts: indices of each batch.
            seed: of the epoch.
            first: number of the first batch within the epoch.
        """
        self._sampler[:] = [_Batch(part, seed + first + i) for i, part in enumerate(parts)]
        self.is_busy = True
        try:
            yield from self._loader
        finally:
            self.is_busy = False
