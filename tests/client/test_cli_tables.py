"""What the lab command's tables give up where there is not room for all of it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from lab_client.cli.catalogue import configs_table
from lab_client.cli.compare import tables
from lab_client.cli.render import runs_table
from lab_client.configs import ConfigItem, Constraint, ExperimentSchema
from lab_client.protocol import convert
from tests.client.twin import Twin

RUN_ID = "20261123-081233-mnist-ab12cd"


@pytest.fixture
def info(twin: Twin) -> Any:
    run = twin.add_run(name="a name", tags=["best", "guide"])
    run.train(num_events=1)
    run.measure(4, accuracy=[0.5], loss=[0.25], other=[1.5])
    return replace(convert.run(run.message), id=RUN_ID)


def printed(table: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("width", "shown", "given_up"),
    [
        (200, ["loss 0.25", "accuracy 0.5", "other 1.5", "best guide", "CREATED"], []),
        (108, ["loss 0.25", "best guide", "CREATED"], ["other"]),
        (88, ["best guide", "CREATED"], ["METRICS"]),
        (76, ["CREATED"], ["METRICS", "TAGS"]),
        (65, ["COMPLETED"], ["METRICS", "TAGS", "CREATED"]),
    ],
)
def test_a_list_of_runs_gives_up_columns_and_never_the_id(
    info: Any, width: int, shown: list[str], given_up: list[str]
) -> None:
    text = printed(runs_table([info], width), width)
    assert len(text.splitlines()) == 2
    for part in (RUN_ID, "a name", "COMPLETED", *shown):
        assert part in text
    for part in given_up:
        assert part not in text


def test_an_id_stays_whole_where_names_have_to_be_folded(info: Any) -> None:
    long = replace(info, name="a very long name " * 10)
    assert RUN_ID in printed(runs_table([long], 80), 80)


def test_runs_that_do_not_fit_beside_each_other_are_compared_below(info: Any) -> None:
    ids = [f"{RUN_ID}{n}" for n in range(5)]
    rows = [(Text("loss"), ["0.5"] * 5), (Text("name"), ["a very long name " * 4] * 5)]
    found = list(tables(ids, rows, 100))
    assert len(found) == 2
    text = "".join(printed(table, 100) for table in found)
    assert all(run_id in text for run_id in ids)
    assert text.count("0.5") == 5


@pytest.mark.parametrize("width", [60, 80, 120])
def test_keys_and_options_of_configs_are_never_cut(width: int) -> None:
    item = ConfigItem(
        key="save_models_interval",
        type="object",
        default=None,
        options=("data_loader_of_the_digits", "resident_digits"),
        doc="steps between checkpoints, which are saved between iterations",
        constraints=(Constraint("ge", 1),),
        is_hyperparam=False,
        is_required=False,
    )
    schema = ExperimentSchema(doc="", items=(item,), run_targets=(), default_run_order=())
    text = printed(configs_table(schema, width), width)
    assert "save_models_interval" in text
    assert "…" not in text
    assert "≥" in text
    assert ("CONSTRAINTS" in text) is (width >= 100)
