"""How handles look in a notebook."""

from __future__ import annotations

from lab_client import Client
from lab_client.views.notebook import sparkline
from lab_rpc.v1 import event_pb2
from tests.client.twin import Twin


def test_a_run_shows_its_state_configs_and_metrics(twin: Twin) -> None:
    with Client(twin.address) as client:
        run = client.create("mnist", {"seed": 7}, name="<b>bold</b>")
        twin.runs[run.id].measure(0, loss=[1.0, 0.5, 0.25])
        twin.runs[run.id].state(event_pb2.RUN_STATE_COMPLETED)
        html = run._repr_html_()
    for part in ("COMPLETED", "seed", "7", "loss", "0.25", "<svg", "&lt;b&gt;"):
        assert part in html
    assert "<b>bold" not in html
    assert "COMPLETED" in run._repr_html_()  # the client is closed: what was known last
    assert repr(run).startswith("<Run 20261123-000000 mnist")


def test_an_experiment_shows_its_configs(twin: Twin) -> None:
    with Client(twin.address) as client:
        html = client.experiment("mnist")._repr_html_()
    for part in ("A CNN.", "epochs", "10", "mnist_5k | mnist"):
        assert part in html


def test_a_sparkline_leaves_out_what_is_not_finite() -> None:
    assert sparkline([1.0]) == ""
    assert sparkline([float("nan"), float("inf")]) == ""
    assert "nan" not in sparkline([1.0, float("nan"), 2.0])
    assert "<polyline" in sparkline([2.0, 2.0])
