"""What the lab command lists and shows: experiments, slots, runs, and how they differ."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from lab_client import Client
from lab_client.cli.listing import since_ns
from lab_client.cli.render import lasting
from tests.client.cli.conftest import Lab
from tests.client.twin import Twin, TwinRun


def test_experiments_are_listed_and_shown(lab: Lab) -> None:
    assert "mnist" in lab("experiments").stdout
    shown = lab("show", "mnist").stdout
    for text in ("For digits.", "epochs", "int", "10", "≥ 1", "mnist_5k | mnist", "set_seed, main"):
        assert text in shown


def test_the_slots_are_listed_with_who_has_them(lab: Lab) -> None:
    shown = lab("slots").stdout
    assert "cpu:0" in shown
    assert "free" in shown


def test_runs_are_filtered_and_sorted(lab: Lab, twin: Twin, run: TwinRun) -> None:
    twin.add_run(name="second")
    listed = lab("runs", "--state", "completed", "--tag", "a", "--sort", "accuracy").stdout
    assert "first" in listed
    assert "second" not in listed
    assert twin.requests[-1].order_by == "accuracy desc"
    lab("runs", "--sort", "step", "--asc", "-n", "1")
    assert (twin.requests[-2].order_by, twin.requests[-2].page_size) == ("step", 1)
    lab("runs", "--asc")
    assert twin.requests[-1].order_by == "create_time"


def test_a_list_that_is_cut_says_so(lab: Lab, twin: Twin) -> None:
    for index in range(5):
        twin.add_run(name=f"n{index}")
    cut = lab("runs", "--limit", "2", "--where", "name ~ n")
    assert "2 of 5; --all shows them" in cut.stderr
    assert twin.requests[-1].where == "name ~ n"
    for whole in (lab("runs", "--all"), lab("runs", "-n", "5"), lab("runs")):
        assert "of 5" not in whole.stderr
        assert all(f"n{index}" in whole.stdout for index in range(5))


def test_a_list_cannot_be_cut_and_whole(lab: Lab) -> None:
    both = lab("runs", "-n", "3", "--all")
    assert (both.exit_code, both.stdout) == (2, "")
    assert "give --all or --limit 3, not both" in both.stderr


def test_columns_are_what_was_asked_for(lab: Lab, twin: Twin) -> None:
    run = twin.add_run(name="first", tags=["a", "b"], metrics={"acc": 0.123456789})
    run.message.configs["lr"].double_value = 0.1
    run.message.configs["flag"].bool_value = True
    run.message.metric_ranges["acc"].max_value = 0.5
    run.message.start_time.FromSeconds(1000)
    run.message.end_time.FromSeconds(4900)
    columns = "name, lr,acc,max(acc),duration,tags,flag,nothing"
    header, row = lab("runs", "--columns", columns).stdout.splitlines()
    assert header.split() == ["RUN", *columns.replace(",", " ").split()]
    cells = [run.message.id, "first", "0.1", "0.12346", "0.5", "1", "h", "05", "min"]
    assert row.split() == [*cells, "a", "b", "true"]
    (shown,) = json.loads(lab("runs", "--columns", "lr,duration,nothing", "--json").stdout)
    assert shown == {"id": run.message.id, "lr": 0.1, "duration": 3900.0, "nothing": None}
    wrong = lab("runs", "--columns", "max(")
    assert (wrong.exit_code, "names nothing of a run" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (3599.9, "59 min 59 s"),
        (7500, "2 h 05 min"),
        (86400 * 3 + 4 * 3600, "3 d 04 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_compare_shows_where_runs_differ(lab: Lab, twin: Twin) -> None:
    one, two = (lab("run", "mnist", "seed=1", f"epochs={n}").stdout.strip() for n in (1, 2))
    twin.runs[one].measure(0, accuracy=[0.5])
    compared = json.loads(lab("compare", one, two, "--json").stdout)
    assert compared["configs"] == {"epochs": [1, 2]}
    assert compared["metrics"] == {"accuracy": [0.5, None]}
    shown = lab("compare", one, two).stdout
    assert "epochs" in shown
    assert "seed" not in shown
    assert "experiment" not in shown
    assert lab("compare", one).exit_code == 2
    twin.runs[two].message.experiment = "other"
    assert "experiment" in lab("compare", one, two).stdout


def test_compare_shows_a_default_that_was_edited_between_two_runs(lab: Lab, twin: Twin) -> None:
    one, two = (lab("run", "mnist").stdout.strip() for _ in range(2))
    for run_id, hidden in ((one, 16), (two, 8)):
        twin.runs[run_id].message.configs["hidden"].int_value = hidden
    assert json.loads(lab("compare", one, two, "--json").stdout)["configs"] == {"hidden": [16, 8]}


def test_what_a_run_uses_is_shown_by_status_and_where_it_is_asked_for(lab: Lab, twin: Twin) -> None:
    run = twin.add_run()
    run.measure(0, loss=[3.0, 2.0, 1.0])
    used = {"system.cpu_cores": [1.0, 2.0], "system.memory_bytes": [8e8, 1.6e9]}
    run.measure(1, **used)
    run_id = run.message.id
    status = lab("status", run_id).stdout
    assert re.search(r"CPU +mean 1.50 cores, max 2.00 cores", status)
    assert re.search(r"memory +mean 1.20 GB, max 1.60 GB", status)
    assert "system.cpu_cores" not in status
    assert "more with --all" not in status
    for command in (["history", run_id, "--csv"], ["runs"], ["compare", run_id, run_id]):
        assert "system." not in lab(*command).stdout
    asked = lab("history", run_id, "--csv", "-m", "system.cpu*").stdout
    assert asked == "step,system.cpu_cores\n1,1.0\n2,2.0\n"
    assert "system.cpu_cores" in lab("history", run_id, "--all").stdout
    with Client(twin.address) as client:
        points = list(client.run(run_id).metrics(follow=False))
        assert [point.values for point in points] == [{"loss": value} for value in (3.0, 2.0, 1.0)]
        assert list(client.run(run_id).history()) == ["loss"]
        read = [p.values for p in client.run(run_id).metrics("system.cpu*", follow=False)]
        assert read == [{"system.cpu_cores": 1.0}, {"system.cpu_cores": 2.0}]


def test_what_matches_nothing_is_told(lab: Lab, run: TwinRun) -> None:
    missing = lab("history", run.message.id, "-m", "nope*")
    assert missing.exit_code == 2
    assert f"run {run.message.id} has no metric 'nope*'; it has: loss" in missing.stderr
    some = lab("history", run.message.id, "-m", "loss", "-m", "nope*")
    assert "loss: last" in some.stdout
    assert some.stderr == f"lab: run {run.message.id} has no metric 'nope*'\n"
    assert "No run matches" in lab("runs", "--tag", "nosuch").stderr
    assert "none of these runs has 'bogus' to sort by" in lab("runs", "--sort", "bogus").stderr
    for sort in ("loss", "metrics.loss", "step"):
        assert lab("runs", "--sort", sort).stderr == ""
    columns = lab("runs", "--columns", "loss,bogus").stderr
    assert columns == "lab: none of these runs has 'bogus' to show\n"


@pytest.mark.parametrize("text", ["soon", "99999999999d", "0000-01-01", "5 parsecs"])
def test_a_time_that_cannot_be_is_told(lab: Lab, run: TwinRun, text: str) -> None:
    refused = lab("logs", run.message.id, "--since", text)
    assert refused.exit_code == 2
    assert "since is a duration, 5min, or a time" in refused.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5min", 300), ("5m", 300), ("1.5h", 5400), ("2d", 172800)]
)
def test_a_duration_is_before_now(text: str, seconds: float) -> None:
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert since_ns(text, now) == int((now.timestamp() - seconds) * 1e9)


def test_status_tells_when_how_long_and_what_the_metrics_were(lab: Lab, twin: Twin) -> None:
    run = twin.add_run(notes="why not", metrics={"acc": 0.5, "flat": 1.0})
    run.message.options.priority = 3
    run.message.options.device = "cuda:0"
    run.message.start_time.FromSeconds(1000)
    run.message.end_time.FromSeconds(4900)
    run.message.metric_ranges["acc"].min_value = 0.1
    run.message.metric_ranges["acc"].max_value = 0.75
    run.message.metric_ranges["flat"].min_value = run.message.metric_ranges["flat"].max_value = 1.0
    lines = [line.split() for line in lab("status", run.message.id).stdout.splitlines()]
    rows = {words[0]: " ".join(words[1:]) for words in lines}
    started = datetime.fromtimestamp(1000, UTC).astimezone()
    assert rows["started"].startswith(f"{started:%Y-%m-%d %H:%M:%S} (")
    assert (rows["duration"], rows["priority"]) == ("1 h 05 min", "3")
    assert (rows["device"], rows["notes"]) == ("cuda:0", "why not")
    assert rows["acc"] == "0.5 (min 0.1, max 0.75)"
    assert rows["flat"] == "1"
