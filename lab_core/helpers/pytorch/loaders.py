"""Resumable loaders: a run can be saved within an epoch, and resumed at exactly that batch.

A loader with a name is resumable: between its batches the run may be saved or stopped. Only the
training loader should have a name: the partial sums of a validation are not in a checkpoint, so a run
must not be stopped in the middle of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lab_core import loop
from lab_core.helpers.pytorch._workers import KeptWorkers

__all__ = ["DataSetLoader", "TensorLoader"]

Batch = tuple[Tensor, ...]


class SizedDataset(Sized, Protocol):
    """A map-style data set."""

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""


class _Loader:
    """Batches in an order determined by one random seed.

    The seed, drawn from torch's global generator at the start of an epoch, and the number of samples
    yielded so far are the whole position: an epoch can be resumed with another batch size.
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
        self._sample = 0

    def __len__(self) -> int:
        return self._num_batches(self._num_samples)

    def _num_batches(self, num_samples: int) -> int:
        full, rest = divmod(max(0, num_samples), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def _first_index(self, sample: int) -> int:
        return len(self) - self._num_batches(self._num_samples - sample)

    @property
    def start_index(self) -> int:
        """Index of the first batch of the next iteration: above 0 in a resumed epoch."""
        resumed = loop.current().place.pending(self.name) if self.name else None
        return self._first_index(resumed["sample"]) if resumed else 0

    def position(self, *, is_innermost: bool) -> dict[str, Any]:  # noqa: ARG002  # loop's protocol
        """Return the epoch's seed and the number of samples yielded so far."""
        return {"seed": self._seed, "sample": self._sample}

    def __iter__(self) -> Iterator[Batch]:
        return self._iterate_resumable() if self.name else self._batches(self._draw(), 0)

    def _iterate_resumable(self) -> Iterator[Batch]:
        state = loop.current()
        if state.place.skip_finished(self.name):
            return
        resumed = state.place.pending(self.name)
        if resumed is None:
            self._seed, self._sample = self._draw(), 0
        else:
            self._seed, self._sample = resumed["seed"], resumed["sample"]
        with state.iterating(self):
            batches = self._batches(self._seed, self._sample)
            for _ in range(self._num_batches(self._num_samples - self._sample)):
                if state.end_step is not None and state.step >= state.end_step:
                    break
                state.boundary()  # before the batch is made: making it may draw random numbers
                batch = next(batches)
                self._sample = min(self._sample + self.batch_size, self._num_samples)
                yield batch
            state.boundary(exhausted=True)

    def _draw(self) -> int:
        return _random_seed() if self.shuffle else 0

    def _order(self, seed: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self._num_samples)
        return torch.randperm(self._num_samples, generator=torch.Generator().manual_seed(seed))

    def _batches(self, seed: int, first_sample: int) -> Iterator[Batch]:
        raise NotImplementedError


def _random_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


class TensorLoader(_Loader):
    """Batches of tensors that are entirely in memory, on the CPU or a GPU, made by indexing.

    Args:
        tensors: tensors [N, ...] of equal length, on one device.
        batch_size: samples per batch; the last one may be smaller.
        shuffle: use a new order in each epoch, from torch's global generator.
        drop_last: leave out a smaller last batch.
        name: makes it resumable; for the training loader.

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
            raise ValueError(f"tensors must have the same length, got {sorted(lengths)}")
        super().__init__(lengths.pop(), batch_size, shuffle, drop_last, name)
        self.tensors = tensors

    def _batches(self, seed: int, first_sample: int) -> Iterator[Batch]:
        size, num_batches = self.batch_size, self._num_batches(self._num_samples - first_sample)
        if self.shuffle:
            order = self._order(seed).to(self.tensors[0].device)
            parts = order[first_sample:].split(size)
            for _, part in zip(range(num_batches), parts, strict=False):
                yield tuple(tensor.index_select(0, part) for tensor in self.tensors)
        else:
            for i in range(num_batches):
                start = first_sample + i * size
                # a copy, as of shuffled ones: who changes a batch in place does not change the data
                yield tuple(tensor[start : start + size].clone() for tensor in self.tensors)


class DataSetLoader(_Loader):
    """Batches of a data set's samples through torch's ``DataLoader``, resumable.

    The order of samples is always resumed exactly, and so is what transforms draw in workers: these are
    started once, live for all epochs, and are seeded with each batch. Without workers, transforms draw from
    the process's own generators.

    Args:
        dataset: a map-style data set.
        batch_size: samples per batch; the last one may be smaller.
        shuffle: use a new order in each epoch, from torch's global generator.
        drop_last: leave out a smaller last batch.
        name: makes it resumable; for the training loader.
        options: of ``DataLoader``: `num_workers`, `pin_memory`, ...; `persistent_workers=False` starts
            workers anew in each epoch.
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
        self._workers: KeptWorkers | None = None

    def _draw(self) -> int:
        # in workers the seed also decides what transforms draw: other numbers in each epoch of a training
        return _random_seed() if self.name else super()._draw()

    def _batches(self, seed: int, first_sample: int) -> Iterator[Batch]:
        num_batches = self._num_batches(self._num_samples - first_sample)
        parts = self._order(seed)[first_sample:].split(self.batch_size)
        sampler = [part.tolist() for part in parts[:num_batches]]
        if self._options.get("num_workers", 0) > 0:
            yield from self._free_workers().batches(sampler, seed, self._first_index(first_sample))
            return
        # its own generator, as DataLoader would draw a number from the global one
        generator = torch.Generator().manual_seed(seed)
        dataset: Dataset[Any] = self.dataset  # type: ignore[assignment] # torch asks for a subclass
        yield from DataLoader(dataset, batch_sampler=sampler, generator=generator, **self._options)

    def _free_workers(self) -> KeptWorkers:
        """Return the kept workers, or others while an iteration is under way that these work for."""
        if self._workers is None or self._workers.is_busy:
            self._workers = KeptWorkers(self.dataset, self._options)
        return self._workers
