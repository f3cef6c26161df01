"""What the lab command's tables give up where there is not room for all of it."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from lab_client.cli.catalogue import configs_table
from lab_client.cli.compare import tables
from lab_client.cli.render import run_table, runs_table
from lab_client.cli.search_render import searches_table, trials_table
from lab_client.configs import ConfigItem, Constraint, ExperimentSchema, PlainValue
from lab_client.protocol import run_convert, search_convert
from lab_client.searches import Domain, Trial, TrialState, anything, choice, uniform
from lab_rpc.v1 import search_pb2
from tests.client.twin import Twin

RUN_ID = "20261123-081233-mnist-ab12cd"


@pytest.fixture
def info(twin: Twin) -> Any:
    run = twin.add_run(name="a name", tags=["best", "guide"])
    run.train(num_events=1)
    run.measure(4, accuracy=[0.5], loss=[0.25], other=[1.5])
    return replace(run_convert.run(run.message), id=RUN_ID)


def printed(table: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("width", "shown", "given_up"),
    [
        (200, ["loss 0.25", "accuracy 0.5", "other 1.5", "best guide", "CREATED"], []),
        (108, ["loss 0.25", "best guide", "CREATED"], ["metrics after the first"]),
        (88, ["best guide", "CREATED"], ["METRICS"]),
        (76, ["CREATED"], ["METRICS", "TAGS"]),
        (65, ["COMPLETED"], ["METRICS", "TAGS", "CREATED"]),
    ],
)
def test_a_list_of_runs_gives_up_columns_and_never_the_id(
    info: Any, width: int, shown: list[str], given_up: list[str]
) -> None:
    table, *told = printed(runs_table([info], width), width).split("no room for ")
    assert len(table.splitlines()) == 2
    for part in (RUN_ID, "a name", "COMPLETED", *shown):
        assert part in table
    for part in given_up:
        assert part not in table
    assert [line.partition(":")[0] for line in told] == ([", ".join(given_up)] if given_up else [])


@pytest.mark.parametrize("width", [80, 140, 200])
def test_a_long_name_goes_on_below_and_takes_no_room_of_others(info: Any, width: int) -> None:
    name = "a_long_name_" * 10
    text = printed(runs_table([info, replace(info, name=name)], width), width)
    assert text.count(RUN_ID) == 2
    assert ("accuracy 0.5" in text) is (width >= 140)
    first = text.splitlines()[0]
    start, end = first.index("NAME"), first.index("EXPERIMENT")
    lines = text.partition("no room")[0].splitlines()[2:]
    assert "".join(line[start:end].strip() for line in lines) == name


@pytest.fixture
def search() -> Any:
    space: dict[str, Domain] = {
        "learning_rate": uniform(0, 1),
        "optimizer": choice("sgd", "[b]adam"),
        "momentum": anything(),
    }
    return search_convert.search(
        search_pb2.Search(
            id=RUN_ID,
            state=search_pb2.SEARCH_STATE_RUNNING,
            spec=search_pb2.SearchSpec(
                name="a_long_name_" * 10,
                experiment="mnist",
                space={key: search_convert.to_domain(key, value) for key, value in space.items()},
                objective=search_pb2.Objective(
                    metric="accuracy",
                    direction=search_pb2.DIRECTION_MAXIMIZE,
                    reduction=search_pb2.REDUCTION_LAST,
                ),
                sampler=search_pb2.SAMPLER_TPE,
                mode=search_pb2.SEARCH_MODE_ASYNC,
                halving=search_pb2.Halving(min_steps=10, eta=3),
            ),
        )
    )


def trials() -> list[Trial]:
    params: dict[str, PlainValue] = {
        "learning_rate": 0.001234567,
        "optimizer": "[b]adam",
        "momentum": 0.5,
    }
    why = "RuntimeError: this is a long sentence about what went wrong with the trial"
    done = Trial(0, params, state=TrialState.COMPLETED, run_id=f"{RUN_ID}0", value=0.5, step=12345)
    bad = replace(done, number=1, state=TrialState.FAILED, value=math.nan, reason=why)
    return [done, replace(bad, run_id=f"{RUN_ID}1")]


@pytest.mark.parametrize("width", [60, 80, 140, 300])
def test_a_table_of_trials_is_readable_and_says_what_it_has_no_room_for(
    search: Any, width: int
) -> None:
    some = trials()
    text = printed(trials_table(search, some, some[0], width), width)
    table, _, told = text.partition("no room for ")
    assert all(len(line) <= width for line in text.splitlines())
    for header, value in (
        ("momentum", "0.5"),
        ("optimizer", "[b]adam"),
        ("RUN", f"{RUN_ID}1"),
        ("STEP", "12345"),
        ("RUNG", "0"),
        ("REASON", "RuntimeError"),
    ):
        assert (header in table) is (header not in told.partition(":")[0].split(", "))
        assert value in table or header in told
    assert "nan" in table
    assert len(table.splitlines()) == (6 if width == 140 else 4)  # the reason is folded
    assert ("went wrong with the trial" in table) is (width == 300)
    assert bool(told) is (width < 140)


def test_a_screen_of_trials_has_a_line_for_each(search: Any) -> None:
    some = trials()
    lines = printed(trials_table(search, some, some[0], 140, limit=2), 140).splitlines()
    assert len(lines) == 4
    assert "RuntimeError: this is a long se…" in lines[-1]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_ids_of_searches_are_never_cut(search: Any, width: int) -> None:
    text = printed(searches_table([search], width), width)
    assert RUN_ID in text
    assert ("CREATED" in text.splitlines()[0]) is ("CREATED" not in text.partition("no room")[2])


@pytest.mark.parametrize("width", [40, 80])
def test_what_is_known_of_a_run_is_folded_and_never_cut(info: Any, width: int) -> None:
    folder = f"/srv/{'x' * 90}/runs/{RUN_ID}"
    text = printed(run_table(replace(info, folder=folder, overrides={"text": "[b]x"})), width)
    start = next(line.index("/srv") for line in text.splitlines() if "/srv" in line)
    assert folder in "".join(line[start:].strip() for line in text.splitlines())
    assert "'[b]x'" in text
    assert "…" not in text


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
