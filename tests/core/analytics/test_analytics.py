from __future__ import annotations

import math
import pathlib
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from lab_core import analytics, tracker
from lab_core.configs import BaseConfigs
from lab_core.errors import LabError, RunNotFound
from lab_core.experiment import Experiment


class Configs(BaseConfigs):
    rate: float = 0.1
    width: int = 3
    kind: str
    epochs: int = 1


Configs.calc(Configs.kind, "fast")(lambda c: "fast")
Configs.calc(Configs.kind, "slow")(lambda c: "slow")


def train(
    root: pathlib.Path, run_id: str, overrides: dict[str, object], losses: list[float]
) -> None:
    run = Experiment(
        "tuning",
        comment="a test",
        tags=["small"] if run_id != "b2" else [],
        run_id=run_id,
        folder=root / "tuning" / run_id,
        writers={"sqlite"},
        console=False,
    )
    run.calculate_configs(Configs, overrides)
    with run.start():
        for step, loss in enumerate(losses):
            tracker.save(step, {"loss": loss})
        tracker.save(len(losses), {"accuracy": 0.5})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("runs")
    train(path, "a1", {"rate": 1, "epochs": 2}, [3.0, 2.0])
    train(path, "b2", {"rate": 0.5, "epochs": 2, "kind": "slow"}, [3.0, math.nan])
    train(path, "b3", {"rate": 0.5}, [])
    (path / "tuning" / "damaged").mkdir()
    (path / "tuning" / "damaged" / "run.yaml").write_text("[not a record")
    (path / "tuning" / "empty").mkdir()
    return path


def test_all_readable_runs_are_listed_in_the_order_of_their_start(root: pathlib.Path) -> None:
    found = analytics.runs(path=root)
    assert [run.id for run in found] == ["a1", "b2", "b3"]
    assert analytics.runs("other", path=root).columns()["id"] == []
    assert len(found[1:]) == 2
    assert found[0].record.notes == "a test"


def test_runs_are_found_where_the_environment_says(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "runs").symlink_to(root)
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    assert len(analytics.runs()) == 3
    assert analytics.load("a1").id == "a1"


def test_a_run_tells_its_hyperparameters_with_their_types(root: pathlib.Path) -> None:
    run = analytics.load("b2", path=root)
    assert repr(dict(run.hyperparams)) == "{'rate': 0.5, 'kind': 'slow', 'epochs': 2}"
    assert run.configs["width"] == 3
    assert repr(analytics.load("a1", path=root).hyperparams["rate"]) == "1.0"


def test_a_run_tells_its_metrics_as_columns(root: pathlib.Path) -> None:
    run = analytics.load("a1", path=root)
    assert run.metrics == ("accuracy", "loss")
    assert (run.series("loss").steps, run.series("loss").values) == ((0, 1), (3.0, 2.0))
    assert len(run.series("loss").times) == 2
    assert run.columns() == {
        "step": [0, 1, 2],
        "accuracy": [None, None, 0.5],
        "loss": [3.0, 2.0, None],
    }
    assert run.columns(["loss"]) == {"step": [0, 1], "loss": [3.0, 2.0]}
    assert run.last("loss") == 2.0


def test_a_metric_that_was_never_measured_is_empty(root: pathlib.Path) -> None:
    run = analytics.load("a1", path=root)
    assert len(run.series("los")) == 0
    assert math.isnan(run.last("los"))
    assert math.isnan(run.series("los").last)


def test_not_a_number_is_kept(root: pathlib.Path) -> None:
    assert math.isnan(analytics.load("b2", path=root).last("loss"))
    assert math.isnan(analytics.load("b2", path=root).series("loss").values[1])


def test_runs_are_columns_of_hyperparameters_and_last_values(root: pathlib.Path) -> None:
    columns = analytics.runs(path=root).columns()
    assert list(columns) == [
        "id", "name", "status", "start", "rate", "epochs", "kind", "accuracy", "loss",
    ]  # fmt: skip
    assert columns["rate"] == [1.0, 0.5, 0.5]
    assert columns["epochs"] == [2, 2, 1]  # the default, where it was not given
    assert columns["accuracy"] == [0.5, 0.5, 0.5]
    assert columns["loss"][2] is None
    assert columns["status"] == ["completed"] * 3


def test_a_metric_named_as_a_hyperparameter_gets_a_column_of_its_own(
    tmp_path: pathlib.Path,
) -> None:
    run = Experiment(
        "e", run_id="r", folder=tmp_path / "e" / "r", writers={"sqlite"}, console=False
    )
    run.calculate_configs({"loss": "l2"})
    with run.start():
        tracker.save(0, loss=2.0)
    columns = analytics.runs(path=tmp_path).columns()
    assert (columns["loss"], columns["last.loss"]) == (["l2"], [2.0])


def test_runs_are_chosen_by_status_tag_and_configs(root: pathlib.Path) -> None:
    found = analytics.runs(path=root)
    assert [run.id for run in found.where(rate=0.5)] == ["b2", "b3"]
    assert [run.id for run in found.where(tag="small", rate=0.5)] == ["b3"]
    assert not found.where(status="failed")
    assert found.where(status="completed", kind="slow")[0].id == "b2"


def test_what_runs_differ_in_is_told(root: pathlib.Path) -> None:
    found = analytics.runs(path=root)
    assert found.differing() == ("rate", "epochs", "kind")
    assert found[1:].differing() == ("kind", "epochs")


def test_an_id_may_be_shortened_to_what_only_one_run_begins_with(root: pathlib.Path) -> None:
    assert analytics.load("a", path=root).id == "a1"
    with pytest.raises(RunNotFound, match="several runs begin with 'b': b2, b3"):
        analytics.load("b", path=root)
    with pytest.raises(RunNotFound, match="there is no run 'c' in"):
        analytics.load("c", path=root)
    with pytest.raises(RunNotFound):
        analytics.load("", path=root)
    with pytest.raises(RunNotFound):
        analytics.load("../tuning/a1", path=root)


def test_a_damaged_run_says_what_is_wrong_with_it(
    root: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(LabError, match=r"run\.yaml is not the record of a run"):
        analytics.load("damaged", path=root)
    train(tmp_path, "a1", {}, [1.0])
    folder = tmp_path / "tuning" / "a1"
    (folder / "sqlite.db").write_bytes(b"no database, but long enough to look at" * 100)
    with pytest.raises(LabError, match="cannot read the metrics in"):
        _ = analytics.load("a1", path=tmp_path).metrics
    (folder / "configs.yaml").write_text("items: 3")
    with pytest.raises(LabError, match="does not hold the configs of a run"):
        analytics.load("a1", path=tmp_path)


def test_a_run_that_still_trains_can_be_read(tmp_path: pathlib.Path) -> None:
    train(tmp_path, "a1", {}, [1.0])
    with sqlite3.connect(tmp_path / "tuning" / "a1" / "sqlite.db") as writer:
        writer.execute("INSERT INTO scalars VALUES ('loss', 7, 0.5, 0)")
        writer.commit()
        writer.execute("INSERT INTO scalars VALUES ('loss', 8, 0.4, 0)")
        assert analytics.load("a1", path=tmp_path).series("loss").steps == (0, 7)
        writer.rollback()


def test_a_run_without_configs_or_metrics_is_a_run(tmp_path: pathlib.Path) -> None:
    run = Experiment("e", run_id="r", folder=tmp_path / "e" / "r", writers=set(), console=False)
    with run.start():
        pass
    found = analytics.load("r", path=tmp_path)
    assert (found.metrics, found.columns(), found.hyperparams) == ((), {"step": []}, {})


def test_frames_of_pandas(root: pathlib.Path) -> None:
    pytest.importorskip("pandas")
    found = analytics.runs(path=root)
    frame = found.to_pandas()
    assert list(frame.index) == ["a1", "b2", "b3"]
    assert frame.loc["b2", "rate"] == 0.5
    assert str(frame["start"].dtype).startswith("datetime64")
    metrics = found[0].to_pandas()
    assert metrics.index.name == "step"
    assert metrics["loss"].dropna().to_dict() == {0: 3.0, 1: 2.0}
    assert analytics.runs("nothing", path=root).to_pandas().empty


def test_the_comparison_has_a_panel_a_metric_and_a_line_a_run(root: pathlib.Path) -> None:
    pytest.importorskip("matplotlib")
    found = analytics.runs(path=root)
    figure = found.plot("loss", "accuracy")
    loss, accuracy = figure.axes
    assert (loss.get_title(loc="left"), len(loss.lines), len(accuracy.lines)) == ("loss", 2, 3)
    line: Any = loss.lines[0]
    assert line.get_label() == "rate=1.0, epochs=2, kind=fast"
    assert list(line.get_ydata()) == [3.0, 2.0]
    assert len(found[0].plot().axes) == 2
    figure.savefig(root / "plot.png")
    assert (root / "plot.png").stat().st_size > 1000
    with pytest.raises(LabError, match="no run has the metric 'los'; there is: accuracy, loss"):
        found.plot("los")


def test_a_missing_library_is_told_with_what_to_install(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = analytics.runs(path=root)
    with pytest.raises(
        LabError, match=r"pandas is not installed; .* pip install 'lab-train\[plot\]'"
    ):
        found.to_pandas()
    with pytest.raises(LabError, match="matplotlib is not installed"):
        found.plot("loss")


def test_importing_analytics_takes_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; import lab_core.analytics;"
        "print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_columns_of_the_same_name_are_told_apart(tmp_path: pathlib.Path) -> None:
    run = Experiment("same", folder=tmp_path / "same" / "r1", writers={"sqlite"}, console=False)
    given = {"name": "mine", "status": "mine", "start": 7, "id": "mine", "loss": 0.25}
    run.calculate_configs(given)
    with run.start():
        for step in range(3):
            tracker.save(step, {"step": 10 * step, "loss": 1.0})
    columns = analytics.runs("same", path=tmp_path).columns()
    assert columns["name"] == ["same"]
    assert columns["status"] == ["completed"]
    own = {key: columns[f"config.{key}"] for key in ("name", "status", "start", "id")}
    assert own == {"name": ["mine"], "status": ["mine"], "start": [7], "id": ["mine"]}
    assert (columns["loss"], columns["last.loss"]) == ([0.25], [1.0])
    (one,) = analytics.runs("same", path=tmp_path)
    assert (one.columns()["step"], one.columns()["metric.step"]) == ([0, 1, 2], [0.0, 10.0, 20.0])


def test_a_status_or_config_that_there_is_not_is_an_error(root: pathlib.Path) -> None:
    found = analytics.runs("tuning", path=root)
    assert len(found.where(status="completed", rate=1)) == 1
    with pytest.raises(LabError, match="no run has the config 'rat'; did you mean 'rate'"):
        found.where(rat=1)
    with pytest.raises(LabError, match="no status 'complete'; there is running, completed"):
        found.where(status="complete")
    assert len(found.where(rate=77).where(rat=1)) == 0
