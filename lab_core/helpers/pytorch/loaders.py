"""Loaders that a checkpoint can be taken within, and that go on from exactly there.

A loader with a name is resumable: it says between its batches that the run may be saved or stopped
there. Only the loader that is trained on should have one: what a validation has summed up so far is in
no checkpoint, so a run must not be stopped in the middle of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lab_core import loop

__all__ = ["DataSetLoader", "TensorLoader"]

Batch = tuple[Tensor, ...]


class SizedDataset(Sized, Protocol):
    """A map-style data set."""

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""


class _Loader:
    """Batches of indexes in an order that one random number decides.

    That number, drawn from torch's global generator at the start of an epoch, and how many batches
    were given, are the whole position.
    """

    def __init__(
        self, num_samples: int, batch_size: int, shuffle: bool, drop_last: bool, name: str | None
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.name = name or ""
        self._num_samples = num_samples
        self._seed = 0
        self._index = 0

    def __len__(self) -> int:
        full, rest = divmod(self._num_samples, self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    @property
    def start_index(self) -> int:
        """Index of the first batch that the next iteration gives: above 0 in a resumed epoch."""
        resumed = loop.current().pending(self.name) if self.name else None
        return resumed["index"] if resumed else 0

    def position(self, *, is_innermost: bool) -> dict[str, Any]:
        """Return the epoch's seed and the index of the next batch."""
        return {"seed": self._seed, "index": self._index}

    def __iter__(self) -> Iterator[Batch]:
        return self._iterate_resumable() if self.name else self._batches(self._draw(), 0)

    def _iterate_resumable(self) -> Iterator[Batch]:
        state = loop.current()
        if state.skip_finished(self.name):
            return
        resumed = state.pending(self.name)
        if resumed is None:
            self._seed, self._index = self._draw(), 0
        else:
            self._seed, self._index = resumed["seed"], resumed["index"]
        with state.iterating(self):
            batches = self._batches(self._seed, self._index)
            while self._index < len(self):
                state.boundary()  # before the batch is made: making it may draw random numbers
                batch = next(batches)
                self._index += 1
                yield batch
            state.boundary(exhausted=True)

    def _draw(self) -> int:
        if not self.shuffle:
            return 0
        return int(torch.empty((), dtype=torch.int64).random_().item())

    def _order(self, seed: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self._num_samples)
        return torch.randperm(self._num_samples, generator=torch.Generator().manual_seed(seed))

    def _batches(self, seed: int, start: int) -> Iterator[Batch]:
        raise NotImplementedError


class TensorLoader(_Loader):
    """Batches of tensors that are wholly in memory, on the CPU or a GPU: a batch is an index.

    Args:
        tensors: tensors [N, ...] of one length, on one device.
        batch_size: samples of a batch; the last one may be smaller.
        shuffle: a new order for each epoch, from torch's global generator.
        drop_last: leave out a smaller last batch.
        name: makes it resumable; for the loader that is trained on.

    Example:
        >>> loader = TensorLoader(torch.arange(5), batch_size=2)
        >>> [batch.tolist() for batch, in loader]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        *tensors: Tensor,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        name: str | None = None,
    ) -> None:
        lengths = {len(tensor) for tensor in tensors}
        if len(lengths) != 1:
            raise ValueError(f"tensors must be of one length, got {sorted(lengths)}")
        super().__init__(lengths.pop(), batch_size, shuffle, drop_last, name)
        self.tensors = tensors

    def _batches(self, seed: int, start: int) -> Iterator[Batch]:
        size = self.batch_size
        if self.shuffle:
            order = self._order(seed).to(self.tensors[0].device)
            parts = order[start * size :].split(size)
            for _, part in zip(range(start, len(self)), parts, strict=False):
                yield tuple(tensor.index_select(0, part) for tensor in self.tensors)
        else:
            for i in range(start, len(self)):
                yield tuple(tensor[i * size : (i + 1) * size] for tensor in self.tensors)


class DataSetLoader(_Loader):
    """Batches of a data set's samples through torch's ``DataLoader``, resumable.

    With workers or random transforms the order of samples is still resumed exactly, the random numbers
    that transforms draw in workers are not.

    Args:
        dataset: a map-style data set.
        batch_size: samples of a batch; the last one may be smaller.
        shuffle: a new order for each epoch, from torch's global generator.
        drop_last: leave out a smaller last batch.
        name: makes it resumable; for the loader that is trained on.
        options: of ``DataLoader``: `num_workers`, `pin_memory`, ...
    """

    def __init__(
        self,
        dataset: SizedDataset,
        *,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(len(dataset), batch_size, shuffle, drop_last, name)
        self.dataset = dataset
        self._options = options

    def _batches(self, seed: int, start: int) -> Iterator[Batch]:
        parts = self._order(seed).split(self.batch_size)[: len(self)]
        sampler = [part.tolist() for part in parts[start:]]
        # a generator of its own: DataLoader draws a number that would disturb the global one
        generator = torch.Generator().manual_seed(seed)
        dataset: Dataset[Any] = self.dataset  # type: ignore[assignment] # torch asks for a subclass
        yield from DataLoader(dataset, batch_sampler=sampler, generator=generator, **self._options)
