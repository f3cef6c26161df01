"""Writers by name, and the contract that each keeps."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lab_core import writers
from lab_core.errors import SettingsError
from lab_core.logger.sinks import Sink
from lab_core.tracker import Kind, Tracker
from lab_core.writers import (
    ConsoleWriter,
    MemoryWriter,
    SqliteWriter,
    TensorboardWriter,
    Writer,
)

MAKE: dict[str, Callable[[Path], Writer]] = {
    "console": lambda _: ConsoleWriter(console=Sink(io.StringIO())),
    "memory": lambda _: MemoryWriter(),
    "sqlite": lambda folder: SqliteWriter(folder / "sqlite.db"),
    "tensorboard": lambda folder: TensorboardWriter(folder / "tensorboard"),
}


@pytest.fixture(params=MAKE)
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Writer:
    made = MAKE[request.param](tmp_path)
    assert made.name == request.param
    return made


def test_a_writer_takes_everything_that_can_be_tracked(writer: Writer) -> None:
    failures: list[BaseException] = []
    current = Tracker([writer], on_failure=lambda _, error: failures.append(error))
    for kind in Kind:
        current.declare(kind, f"{kind.value}.*", is_print=True)
    values = {
        "scalar": math.nan,
        "queue": math.inf,
        "histogram": [1.0, math.nan],
        "indexed_scalar": [(1, 2.0), (3, -math.inf)],
        "text": "a\x00b [bold] ü",
        "image": np.zeros((3, 4, 3), np.uint8),
    }
    current.start({"lr": 0.1, "name": None, "sizes": [1, "a"]})
    for step in range(3):
        for name in ("a", "ü b/c", "x" * 1000):
            current.add({f"{kind}.{name}": value for kind, value in values.items()})
        current.save(step)
        assert current.flush()
    assert current.close(status="failed")
    assert failures == []


def test_a_writer_that_wrote_nothing_can_be_closed(writer: Writer) -> None:
    writer.close()


def test_writers_are_made_by_name_and_taken_as_they_are(tmp_path: Path) -> None:
    own = MemoryWriter()
    made = writers.create(["sqlite", own, "tensorboard", "console"], tmp_path)
    assert [w.name for w in made] == ["sqlite", "memory", "tensorboard", "console"]
    assert made[1] is own
    assert [w.name for w in writers.create("sqlite", tmp_path)] == ["sqlite"]
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_writer_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown writer 'sqllite'; did you mean 'sqlite'"):
        writers.create({"sqllite"}, tmp_path)
    with pytest.raises(SettingsError, match="there are console, sqlite, tensorboard"):
        writers.create({"wandb"}, tmp_path)


def test_scalars_measured_together_come_as_one_group() -> None:
    groups: list[list[str]] = []

    class Grouping(MemoryWriter):
        def write(self, batch: writers.Batch) -> None:
            groups.extend([c.name for c in g.columns] for g in batch.groups())
            for group in batch.groups():
                assert all(len(c.values) == len(group.steps) for c in group.columns)

    current = Tracker([Grouping()])
    for step in range(3):
        current.save(step, loss=1.0, accuracy=1.0)
    current.save(3, loss=1.0, test_loss=1.0, test_accuracy=2.0)
    current.start()
    current.close()
    assert groups == [["loss"], ["accuracy"], ["test_loss", "test_accuracy"]]
