"""What becomes of saved records: one mean over all numbers, each at its own time."""

from __future__ import annotations

import numpy as np

from lab_core.tracker.aggregate import Aggregator, Record
from lab_core.tracker.indicators import Registry
from lab_core.writers.base import ScalarColumn


def columns(*records: Record) -> dict[str, ScalarColumn]:
    aggregator = Aggregator(Registry())
    aggregator.take(records)
    batch = aggregator.batch()
    assert batch is not None
    return {column.name: column for column in batch.columns}


def test_a_mean_of_arrays_is_that_of_all_their_numbers() -> None:
    added = [None, np.asarray([0.0, 0.0, 0.0]), np.asarray([4.0])]
    assert columns((1, 0.0, {"loss": added}))["loss"].values == [1.0]


def test_a_mean_of_floats_and_arrays_counts_each_number_once() -> None:
    added = [None, 10.0, np.asarray([[1.0, 2.0], [3.0, 4.0]])]
    assert columns((1, 0.0, {"loss": added}))["loss"].values == [4.0]


def test_metrics_of_equal_steps_share_them_and_keep_their_own_times() -> None:
    found = columns(
        (1, 10.0, {"loss": [None, 0.5], "accuracy": [None, 0.25]}),
        (1, 20.0, {"test_loss": [None, 0.75]}),
    )
    assert found["loss"].steps is found["accuracy"].steps
    assert {name: column.times for name, column in found.items()} == {
        "loss": [10.0],
        "accuracy": [10.0],
        "test_loss": [20.0],
    }


def test_each_point_stands_at_the_time_of_its_save() -> None:
    found = columns(
        (1, 10.0, {"loss": [None, 0.5]}),
        (2, 20.0, {"loss": [None, 0.25]}),
        (3, 30.0, {"loss": [None, np.asarray([0.5, 1.0])]}),
    )
    assert found["loss"].times == [10.0, 20.0, 30.0]
    assert found["loss"].values == [0.5, 0.25, 0.75]


def test_the_last_value_is_that_of_the_last_point() -> None:
    aggregator = Aggregator(Registry())
    aggregator.take([(1, 10.0, {"loss": [None, 0.5]}), (2, 20.0, {"loss": [None, 0.25]})])
    assert aggregator.last_values() == {"loss": 0.25}
    aggregator.batch()
    assert aggregator.last_values() == {"loss": 0.25}


def test_a_line_has_what_was_measured_since_the_line_before() -> None:
    aggregator = Aggregator(Registry())
    aggregator.take(
        [
            (1, 10.0, {"loss": [None, 0.5]}),
            (1, 10.0, None),
            (2, 20.0, {"accuracy": [None, 0.25]}),
            (2, 20.0, None),
        ]
    )
    assert aggregator.lines() == [(1, {"loss": 0.5}), (2, {"accuracy": 0.25})]
    assert aggregator.lines() == []
