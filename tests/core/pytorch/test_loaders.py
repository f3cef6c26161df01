from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from lab_core import loop, monit
from lab_core.helpers.pytorch.loaders import DataSetLoader, TensorLoader
from lab_core.loop import Loop, StopRun


class Numbers:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


KINDS = {
    "tensors": lambda n, **options: TensorLoader(torch.arange(n), **options),
    "data set": lambda n, **options: DataSetLoader(Numbers(n), **options),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[Loop]:
    state = Loop()
    loop.set_current(state)
    yield state
    loop.set_current(Loop())


def values(batches: Any) -> list[list[int]]:
    # a TensorLoader's batch is a tuple, one of plain numbers is a tensor
    return [(b[0] if isinstance(b, tuple) else b).tolist() for b in batches]


def test_batches_come_in_order(make: Any) -> None:
    loader = make(5, batch_size=2)
    assert values(loader) == [[0, 1], [2, 3], [4]]
    assert len(loader) == 3


def test_a_smaller_last_batch_can_be_left_out(make: Any) -> None:
    for shuffle in (False, True):
        loader = make(5, batch_size=2, drop_last=True, shuffle=shuffle)
        assert [len(batch) for batch in values(loader)] == [2, 2]
        assert len(loader) == 2


def test_shuffled_epochs_have_everything_once_and_differ(make: Any) -> None:
    torch.manual_seed(1)
    loader = make(20, batch_size=3, shuffle=True)
    first, second = ([v for batch in values(loader) for v in batch] for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_the_seed_decides_the_order(make: Any) -> None:
    orders = []
    for _ in range(2):
        torch.manual_seed(1)
        orders.append(values(make(20, batch_size=3, shuffle=True)))
    assert orders[0] == orders[1]


def test_an_epoch_takes_one_number_from_the_global_generator(make: Any) -> None:
    after = []
    for size in (5, 50):
        torch.manual_seed(1)
        list(make(size, batch_size=2, shuffle=True))
        after.append(torch.rand(()).item())
    assert after[0] == after[1]


@pytest.mark.parametrize("shuffle", [True, False])
def test_what_is_done_to_a_batch_leaves_the_data_as_they_are(make: Any, shuffle: bool) -> None:
    loader = make(5, batch_size=2, shuffle=shuffle)
    for batch in loader:
        (batch[0] if isinstance(batch, tuple) else batch).add_(100)
    assert sorted(v for batch in values(loader) for v in batch) == list(range(5))


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_size_below_one_is_refused(make: Any, size: int) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        make(5, batch_size=size)


def test_tensors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        TensorLoader(torch.arange(3), torch.arange(4), batch_size=1)


def test_a_resumed_epoch_goes_on_with_the_next_batch(make: Any, fresh: Loop) -> None:
    torch.manual_seed(1)
    whole = values(make(20, batch_size=3, shuffle=True, name="train"))
    torch.manual_seed(1)
    positions: list[dict[str, Any]] = []
    loader = make(20, batch_size=3, shuffle=True, name="train")
    for i, _ in enumerate(loader):
        if i == 2:
            positions.append(fresh.place.positions())

    resumed = Loop()
    resumed.resume(3, positions[0])
    loop.set_current(resumed)
    again = make(20, batch_size=3, shuffle=True, name="train")
    assert again.start_index == 3
    numbered = list(monit.enum("Train", again, is_silent=True))
    assert [i for i, _ in numbered] == [3, 4, 5, 6]
    assert values(batch for _, batch in numbered) == whole[3:]
    assert again.start_index == 0
    assert len(values(again)) == 7, "the next epoch is a whole one"


def test_a_loader_that_was_through_is_not_gone_through_again(fresh: Loop) -> None:
    """Two loaders an iteration: the run is stopped in the second, and resumes in the second."""

    def body(state: Loop) -> list[tuple[str, int]]:
        first = TensorLoader(torch.arange(4), batch_size=2, name="first")
        second = TensorLoader(torch.arange(6), batch_size=2, name="second")
        seen = []
        for _ in loop.loop(2):
            for name, loader in (("first", first), ("second", second)):
                for (batch,) in loader:
                    seen.append((name, int(batch[0])))
                    if stop_at == len(seen):
                        state.request_stop()
        return seen

    stop_at = -1
    undisturbed = body(fresh)
    stop_at = 4
    stopped = Loop()
    loop.set_current(stopped)
    saved: list[dict[str, Any]] = []
    stopped.save = lambda: saved.append(stopped.place.positions())
    with pytest.raises(StopRun):
        body(stopped)
    stop_at = -1
    resumed = Loop()
    resumed.resume(stopped.step, saved[0])
    loop.set_current(resumed)
    assert body(resumed) == undisturbed[4:]


def test_a_loader_without_a_name_is_never_stopped_within(make: Any, fresh: Loop) -> None:
    fresh.request_stop()
    assert len(list(make(4, batch_size=2))) == 2
    with pytest.raises(StopRun):
        list(make(4, batch_size=2, name="train"))


def test_data_loader_options_are_passed_on() -> None:
    loader = DataSetLoader(Numbers(4), batch_size=2, collate_fn=list)
    batches: list[Any] = list(loader)
    assert batches == [[0, 1], [2, 3]]


class Noisy(Numbers):
    """Samples of an index, the worker that made it, and what random transforms drew there."""

    def __getitem__(self, index: int) -> Any:
        return index, os.getpid(), random.random(), np.random.random(), torch.rand(()).item()


def epoch(loader: DataSetLoader) -> tuple[list[Any], set[int]]:
    """Return the samples of an epoch without their workers, and the workers."""
    samples: list[Any] = [sample for batch in loader for sample in batch]
    return [(s[0], *s[2:]) for s in samples], {s[1] for s in samples}


def noisy(**options: Any) -> DataSetLoader:
    return DataSetLoader(Noisy(8), batch_size=2, collate_fn=list, **{"shuffle": True, **options})


@pytest.mark.parametrize("shuffle", [True, False])
def test_workers_live_for_all_epochs_and_draw_other_numbers_in_each(shuffle: bool) -> None:
    loader = noisy(num_workers=2, shuffle=shuffle, name="train")
    (first, workers), (second, same_workers) = epoch(loader), epoch(loader)
    assert workers == same_workers
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert {s[0] for s in first} == {s[0] for s in second} == set(range(8))
    assert not {s[1:] for s in first} & {s[1:] for s in second}
    assert len({s[1] for s in first}) == 8, "no two samples get the same"


def test_workers_are_started_anew_where_that_is_asked_for() -> None:
    loader = noisy(num_workers=1, persistent_workers=False)
    assert epoch(loader)[1] != epoch(loader)[1]


def test_a_resumed_epoch_draws_in_workers_what_it_would_have_drawn(fresh: Loop) -> None:
    torch.manual_seed(3)
    whole = epoch(noisy(num_workers=2, name="train"))[0]
    saved: list[dict[str, Any]] = []
    fresh.save = lambda: saved.append(fresh.place.positions())
    taken: list[Any] = []

    def stop_after_four() -> None:
        for batch in noisy(num_workers=2, name="train"):
            taken.extend((s[0], *s[2:]) for s in batch)
            if len(taken) == 4:
                fresh.request_stop()

    torch.manual_seed(3)
    with pytest.raises(StopRun):
        stop_after_four()
    resumed = Loop()
    resumed.resume(fresh.step, saved[0])
    loop.set_current(resumed)
    torch.manual_seed(99)
    # one worker instead of two: who makes a batch does not matter
    assert taken + epoch(noisy(num_workers=1, name="train"))[0] == whole


def test_two_iterations_at_once_have_workers_each() -> None:
    loader = DataSetLoader(Numbers(6), batch_size=2, num_workers=1)
    first, second = zip(*zip(loader, loader, strict=True), strict=True)
    assert values(first) == values(second) == [[0, 1], [2, 3], [4, 5]]
    assert values(loader) == [[0, 1], [2, 3], [4, 5]]


def test_a_worker_sees_the_data_set_itself() -> None:
    def name_it(worker: int) -> None:
        dataset: Any = torch.utils.data.get_worker_info().dataset  # type: ignore[union-attr]
        dataset.count += 10 * dataset.count

    class Counted(Numbers):
        def __getitem__(self, index: int) -> int:
            return self.count

    loader = DataSetLoader(Counted(2), batch_size=2, num_workers=1, worker_init_fn=name_it)
    assert values(loader) == [[22, 22]]


def test_a_data_set_that_makes_many_samples_at_once_does_so_in_workers_too() -> None:
    class Many(Numbers):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return [100 + index for index in indices]

    loader = DataSetLoader(Many(4), batch_size=2, num_workers=1)
    assert values(loader) == [[100, 101], [102, 103]]
