"""Searches by the client, against a real server with real trainers."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lab_client import (
    AsyncClient,
    Client,
    Halving,
    Search,
    SearchFailed,
    SearchNotFound,
    TrialState,
    choice,
    errors,
    experiment,
    log_uniform,
)
from lab_client.cli.app import app
from lab_client.cli.search_live import LiveSearch
from lab_client.searches import SearchState
from lab_client.views.search_progress import SearchBar
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

GRID: dict[str, Any] = {"steps": choice(4, 2, 3), "step_s": 0.0}


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=120) as client:
        yield client


@pytest.fixture(scope="module")
def grid(client: Client) -> Search:
    study = client.search(
        "counting", GRID, minimize="loss", parallel=2, seed=1, name="three", tags=["t"]
    )
    assert study.wait(120, check=True).state is SearchState.COMPLETED
    return study


def test_the_best_of_a_grid_is_found_and_its_run_is_a_run(client: Client, grid: Search) -> None:
    trials = grid.trials()
    assert [dict(trial.params) for trial in trials] == [{"steps": 4}, {"steps": 2}, {"steps": 3}]
    assert [trial.value for trial in trials] == [1 / 4, 1 / 2, 1 / 3]
    assert grid.best == trials[0]
    run = client.get(trials[0].run_id)
    assert run.overrides == {"steps": 4, "step_s": 0.0}
    assert run.trial is not None
    assert (run.trial.search_id, run.trial.number, run.tags) == (grid.id, 0, ("t",))
    assert grid.info.counts == {TrialState.COMPLETED: 3}
    assert grid.info.reason == "all 3 trials are done"
    assert repr(grid) == f"<Search {grid.id} counting COMPLETED 3/3 trials best 0.25>"


def test_the_log_is_read_from_any_seq(grid: Search) -> None:
    entries = list(grid.watch())
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert [e.kind for e in entries].count("told") == 3
    assert (entries[0].kind, entries[-1].kind) == ("created", "ended")
    assert list(grid.watch(after_seq=3)) == entries[3:]
    assert list(grid.watch(after_seq=3, follow=False)) == entries[3:]
    assert list(grid.watch(after_seq=len(entries))) == []


def test_a_search_is_attached_to_and_listed(client: Client, grid: Search) -> None:
    assert client.get_search(grid.id[:20]).info == grid.refresh()
    listed = client.searches(experiment="counting", states=["completed"])
    assert grid.id in [search.id for search in listed]
    assert len(list(client.searches(limit=1))) == 1
    with pytest.raises(SearchNotFound, match="there is no search 'nothing'"):
        client.get_search("nothing")


def test_the_asyncio_twin_does_the_same(server: RealServer, grid: Search) -> None:
    async def read() -> None:
        async with AsyncClient(server.address) as client:
            study = await client.search("counting", {"steps": choice(2, 3)}, maximize="accuracy")
            assert (await study.wait(120, check=True)).best == await study.best
            assert (await study.state).is_terminal
            assert [t.params["steps"] for t in await study.trials()] == [2, 3]
            await study.extend(max_trials=2)
            twin = await client.get_search(grid.id)
            assert [e async for e in twin.watch()] == list(grid.watch())
            assert await twin.trials() == grid.trials()
            assert list((await twin.to_pandas()).columns) == list(grid.to_pandas().columns)
            assert grid.id in [s.id async for s in client.searches()]
            await study.delete()
            with pytest.raises(SearchNotFound):
                await study.refresh()

    asyncio.run(read())


def test_a_frame_and_a_figure_show_the_trials(grid: Search) -> None:
    frame = grid.to_pandas()
    assert list(frame["params.steps"]) == [4, 2, 3]
    assert list(frame["value"]) == [1 / 4, 1 / 2, 1 / 3]
    figure = grid.plot()
    assert len(figure.axes) == 3  # with the colour bar
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert grid.importances() == {}  # too few values


def test_halving_promotes_the_best_which_is_the_run_that_was_never_paused(
    client: Client,
) -> None:
    space = {"x": log_uniform(0.01, 1.0), "rate": choice(0.1, 0.5)}
    study = client.search(
        "valley", space, minimize="loss", max_trials=6, parallel=2, seed=3, halving=Halving(3, 3)
    )
    study.wait(120, check=True)
    trials = study.trials()
    best = study.best
    assert best is not None
    assert [trial.rung for trial in trials].count(0) == 4
    assert {t.state for t in trials if t.rung == 0} == {TrialState.PRUNED}
    assert best.state is TrialState.COMPLETED
    assert best.step == 27
    twin = client.create("valley", best.params).start()
    twin.wait(120, check=True)
    paused, whole = (client.run(i).history("loss")["loss"] for i in (best.run_id, twin.id))
    assert (list(paused.steps), list(paused.values)) == (list(whole.steps), list(whole.values))
    assert study.info.num_steps == sum(trial.step for trial in trials) < 6 * 27 / 2.5
    assert set(study.importances()) <= {"x", "rate"}


def test_a_search_is_paused_extended_and_given_points(client: Client) -> None:
    study = client.search("counting", {"steps": choice(2, 3, 4)}, minimize="loss", max_trials=1)
    study.wait(120)
    assert study.extend(max_trials=3).pause().state is SearchState.PAUSED
    study.enqueue({"steps": 4})
    study.resume().wait(120, check=True)
    assert [t.params["steps"] for t in study.trials()].count(4) >= 1
    assert len(study.trials()) == 3


def test_a_search_learns_from_an_earlier_one_and_from_runs(client: Client, grid: Search) -> None:
    run = client.create("counting", {"steps": 5, "step_s": 0.0}).start()
    run.wait(120, check=True)
    study = client.search(
        "counting",
        {"steps": choice(2, 3, 4, 5)},
        minimize="loss",
        max_trials=2,
        seed=1,
        warm_start=[grid, run],
    )
    assert study.wait(120, check=True).num_taken_over == 4
    assert (study.info.warm_start, study.info.sampler) == ((grid.id, run.id), "tpe")
    assert not study.info.warnings
    (entry,) = [entry for entry in study.watch() if entry.kind == "taken_over"]
    assert [(one.params["steps"], one.value) for one in entry.taken] == [
        (4, 1 / 4),
        (2, 1 / 2),
        (3, 1 / 3),
        (5, 1 / 5),
    ]
    assert [one.search_id for one in entry.taken] == [grid.id] * 3 + [""]
    with pytest.raises(errors.InvalidRequest, match="there is no search or run '20991231'"):
        client.search(
            "counting",
            {"steps": choice(1)},
            minimize="loss",
            max_trials=1,
            warm_start="20991231",
        )


def test_a_search_that_comes_to_nothing_raises_when_asked_to(client: Client) -> None:
    study = client.search("counting", {"steps": choice(2)}, minimize="nothing")
    with pytest.raises(SearchFailed, match="it did not report the metric 'nothing'"):
        study.wait(120, check=True)


@pytest.mark.parametrize(
    ("space", "arguments", "sentence"),
    [
        ({"steps": choice(1)}, {}, "maximize=METRIC or minimize=METRIC"),
        ({"steps": choice(1)}, {"maximize": "a", "minimize": "b"}, "one of them"),
        ({"steps": 3}, {"minimize": "loss"}, "the space is empty"),
        ({"steps": choice(-1)}, {"minimize": "loss"}, "steps must be at least 0, got -1"),
        ({"stepz": choice(1)}, {"minimize": "loss"}, "did you mean 'steps'"),
        ({"steps": choice(1)}, {"minimize": "loss", "max_trials": 0}, "at least 1, got 0"),
        ({"steps": choice(1)}, {"minimize": "loss", "parallel": 0}, "at least 1, got 0"),
        ({"steps": choice(1)}, {"minimize": "loss", "sampler": "best"}, "sampler must be one of"),
        ({"steps": choice(object())}, {"minimize": "loss"}, "cannot be sent"),  # type: ignore[arg-type]
        ({"steps": choice(1)}, {"minimize": "loss", "max_steps": -1}, "max_steps"),
        ({"steps": choice(1)}, {"minimize": "loss", "seed": -1}, "cannot be sent"),
        (
            {"steps": choice(1)},
            {"minimize": "loss", "warm_start": 3},
            "searches, runs and their ids",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    client: Client, space: dict[str, Any], arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=sentence):
        client.search("counting", space, **arguments)


def test_code_of_ones_own_is_not_searched(client: Client) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"serve --experiments \./sine\.py"):
        client.search("./sine.py", GRID, minimize="loss")


def test_the_facade_searches_by_its_connection(server: RealServer) -> None:
    experiment.connect(server.address)
    study = experiment.search("counting", {"steps": choice(2)}, minimize="loss")
    assert study.wait(120).state is SearchState.COMPLETED


class Cli:
    """Runs `lab` on the server."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __call__(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["--server", self._address, *arguments])
        assert result.exit_code == code, result.output
        return result.output


@pytest.fixture
def lab(server: RealServer) -> Cli:
    return Cli(server.address)


def test_a_search_by_command_is_watched_and_shown(lab: Cli) -> None:
    search = ("search", "counting", "steps=2,3", "step_s=0", "--maximize", "accuracy")
    output = lab(*search, "--parallel", "2", "--name", "by-command", "--watch")
    search_id, *lines = output.splitlines()
    assert sum(line.startswith("trial ") for line in lines) == 2
    assert "accuracy 0.66667 at step 3" in output
    assert lines[-1] == "search COMPLETED: all 2 trials are done"
    assert search_id in lab("searches")
    assert "--limit shows" not in lab("searches", "-n", "100")
    lab("search", "counting", "steps=2,3", "step_s=0", "--maximize", "accuracy", "--watch")
    assert "lab: only the newest 1; --limit shows more" in lab("searches", "-n", "1")
    shown = lab("search-status", search_id)
    for text in (
        "by-command",
        "maximize accuracy (last)",
        "2 completed",
        "★ 1",
        "the same for all",
    ):
        assert text in shown
    found = json.loads(lab("search-status", search_id, "--json"))
    assert found["search"]["best"]["number"] == 1
    assert [trial["params"] for trial in found["trials"]] == [{"steps": 2}, {"steps": 3}]
    entries = [json.loads(line) for line in lab("search-watch", search_id, "--json").splitlines()]
    assert entries[-1]["state"] == "COMPLETED"
    assert lab("search-rm", search_id) == f"{search_id} deleted\n"
    assert "there is no search" in lab("search-status", search_id, code=2)


def test_a_watched_search_says_what_it_waits_for(tmp_path: Path) -> None:
    experiments = str(Path(__file__).parents[1] / "experiments.py")
    server = start_server(
        tmp_path, *("--slots", "cpu:1", "--queue-limit", "1", "--experiments", experiments)
    )
    try:
        with Client(server.address, timeout_s=120) as client:
            endless = {"steps": 10**6, "step_s": 0.01}
            runs = [client.create("counting", endless).start()]
            next(runs[0].metrics())  # it has the slot, and the next one the queue
            runs.append(client.create("counting", endless).start())
            study = client.search("counting", GRID, minimize="loss")
            watched = _lab(server, "search-watch", study.id, stdout=subprocess.PIPE, text=True)
            assert watched.stdout is not None
            lines = iter(watched.stdout.readline, "")
            assert next(lines).startswith("search waits: ")
            for run in runs:
                run.stop()
            assert next(lines) == "search goes on\n"
            assert list(lines)[-1] == "search COMPLETED: all 3 trials are done\n"
            assert watched.wait(30) == 0
    finally:
        server.stop()


def _lab(server: RealServer, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
    program = str(Path(sys.executable).with_name("lab"))
    return subprocess.Popen([program, "--server", server.address, *arguments], **options)


def test_a_terminal_shows_what_a_search_waits_for(
    grid: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    live = LiveSearch(grid.info)
    screen = Console(file=io.StringIO(), width=80, record=True)
    live.waits("the queue is full")
    screen.print(live)
    assert "search waits: the queue is full" in screen.export_text()
    live.waits("")
    screen.print(live)
    assert "waits" not in screen.export_text()
    with SearchBar(grid.info) as bar:
        bar.waits("the queue is full")
    assert "search waits: the queue is full" in capsys.readouterr().err


def test_a_search_by_command_learns_from_an_earlier_one(lab: Cli, grid: Search) -> None:
    output = lab(
        *("search", "counting", "steps=2,3,9", "--minimize", "loss", "--trials", "1"),
        *("--warm-start", grid.id, "--watch"),
    )
    warning, search_id, *_ = output.splitlines()
    assert warning == (
        f"lab: warning: took over 2 of 3 trials of search {grid.id}: 1 outside of the space"
    )
    assert f"2 trials of {grid.id}" in lab("search-status", search_id)


def test_a_search_by_command_is_stopped_and_extended(lab: Cli) -> None:
    search_id = lab(
        *("search", "counting", "steps=1..1000", "--minimize", "loss", "--trials", "900"),
        *("step_s=0.05", "--seed", "1", "--sampler", "random"),
    ).strip()
    assert lab("search-pause", search_id) == f"{search_id} PAUSED\n"
    assert lab("search-try", search_id, "steps=2") == f"{search_id}\n"
    assert lab("search-resume", search_id) == f"{search_id} RUNNING\n"
    assert "950 trials" in lab("search-extend", search_id, "--trials", "950")
    assert lab("search-stop", search_id, "--wait") == f"{search_id} STOPPED\n"
    assert "stopped: stopped on request" in lab("search-watch", search_id, code=4)


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("steps=1..9", {"low": 1, "high": 9, "step": 1, "is_log": False}),
        ("steps=log:1..100", {"low": 1, "high": 100, "step": 1, "is_log": True}),
        ("steps=2..8/2", {"low": 2, "high": 8, "step": 2, "is_log": False}),
        ("step_s=0.1..0.5", {"low": 0.1, "high": 0.5, "step": 0.0, "is_log": False}),
        ("step_s=log:1e-4..1e-1", {"low": 1e-4, "high": 1e-1, "step": 0.0, "is_log": True}),
        ("steps=3,5", {"values": [3, 5]}),
    ],
)
def test_a_space_is_read_from_the_command_line(
    server: RealServer, argument: str, kind: dict[str, Any]
) -> None:
    from lab_client.cli.context import plain
    from lab_client.cli.search_arguments import parse_space

    with Client(server.address) as client:
        (domain,) = parse_space(client, "counting", [argument]).values()
    assert plain(domain) == kind


@pytest.mark.parametrize(
    "argument",
    ["steps", "steps=1..", "steps=a..b", "step_s=log:1..2/1", "steps=1..9/0", "step_s=0..1/0"],
)
def test_a_space_that_cannot_be_read_is_refused(lab: Cli, argument: str) -> None:
    lab("search", "counting", argument, "--minimize", "loss", "--trials", "1", code=2)


def test_eta_without_halving_is_refused(lab: Cli) -> None:
    lab("search", "counting", "steps=1,2", "--minimize", "loss", "--eta", "2", code=2)
