"""What benchmarks/chaos.py compares: all of a run but what its machine makes different."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from chaos_judge import database_of, history_of

from lab_client.events import Column, Event, Metrics, Truncate


def logged(*bodies: Metrics | Truncate) -> list[Event]:
    return [Event(seq, 1, 0, body) for seq, body in enumerate(bodies, 1)]


def measured(*steps: int, **values: float) -> Metrics:
    columns = {name.replace("__", "."): Column([v] * len(steps), []) for name, v in values.items()}
    return Metrics(list(steps), columns, 1)


def test_a_metric_that_differs_at_one_step_is_found_and_the_machines_own_are_left_out() -> None:
    mine = {"loss": 0.5, "system_load": 1.0, "my__system__x": 2.0}
    history = history_of(logged(measured(1, 2, **mine, system__cpu_cores=0.9)))
    assert history == history_of(logged(measured(1, 2, **mine, system__cpu_cores=0.1)))
    assert set(history) == {"loss", "system_load", "my.system.x"}
    for name in mine:
        other = {**mine, name: mine[name] + 1e-9}
        assert history != history_of(logged(measured(1, **mine), measured(2, **other)))
    assert history != history_of(logged(measured(1, **mine)))


@pytest.mark.parametrize("name", ["loss", "system__cpu_cores"])
def test_a_step_that_is_there_twice_is_found_unless_it_was_dropped_between(name: str) -> None:
    first, again = measured(1, 2, **{name: 0.5}), measured(2, **{name: 0.5})
    with pytest.raises(SystemExit, match="has step 2 twice"):
        history_of(logged(first, again))
    assert history_of(logged(first, Truncate(1), again)) == history_of(logged(first))


def test_a_row_that_is_in_a_database_twice_is_found(tmp_path: Path) -> None:
    path = tmp_path / "sqlite.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE scalars (indicator, step, value)")
        db.execute("INSERT INTO scalars VALUES ('loss', 1, 0.5)")
    assert database_of(path) == {"loss": {1: 0.5}}
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO scalars VALUES ('loss', 1, 0.5)")
    with pytest.raises(SystemExit, match="has step 1 twice"):
        database_of(path)
