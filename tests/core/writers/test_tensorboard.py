"""The tensorboard writer, read back by TensorBoard's own code."""

from __future__ import annotations

import io
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lab_core.errors import SettingsError
from lab_core.tracker import Kind, Tracker
from lab_core.writers import Batch, ScalarColumn, TensorboardWriter


def read(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def test_scalars_are_there_at_their_steps_and_times(tmp_path: Path) -> None:
    with Tracker([TensorboardWriter(tmp_path)]) as current:
        for step in range(100):
            current.save(step, {"loss": 1.0 / (step + 1), "train.accuracy": step / 128})
    found = read(tmp_path)
    losses = found.Scalars("loss")
    assert [e.step for e in losses] == list(range(100))
    assert [e.value for e in losses] == [float(np.float32(1.0 / (s + 1))) for s in range(100)]
    assert all(a.wall_time <= b.wall_time for a, b in itertools.pairwise(losses))
    assert [e.value for e in found.Scalars("train.accuracy")] == [s / 128 for s in range(100)]


def test_nan_and_infinities_are_kept(tmp_path: Path) -> None:
    with Tracker([TensorboardWriter(tmp_path)]) as current:
        for step, value in enumerate([math.nan, math.inf, -math.inf, 1e300]):
            current.save(step, x=value)
    values = [e.value for e in read(tmp_path).Scalars("x")]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, math.inf]  # 1e300 is more than a float32 holds


def test_histograms_are_there(tmp_path: Path) -> None:
    with Tracker([TensorboardWriter(tmp_path)]) as current:
        current.declare(Kind.HISTOGRAM, "w")
        current.declare(Kind.INDEXED, "each")
        current.save(1, w=np.arange(100.0), each=([1, 2, 3], [0.0, 1.0, 2.0]))
        current.save(2, w=[math.nan])
    found = read(tmp_path)
    first, second = found.Histograms("w")
    spread = first.histogram_value
    assert (first.step, spread.min, spread.max, spread.num, spread.sum) == (1, 0, 99, 100, 4950)
    assert sum(spread.bucket) == 100
    assert len(spread.bucket) == 30
    assert list(spread.bucket_limit) == np.linspace(0, 99, 31)[1:].tolist()
    assert second.histogram_value.num == 0
    assert found.Histograms("each")[0].histogram_value.num == 3


def test_images_are_there(tmp_path: Path) -> None:
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    with Tracker([TensorboardWriter(tmp_path)]) as current:
        current.declare(Kind.IMAGE, "*")
        current.save(1, one=picture, many=np.zeros((2, 1, 4, 5)))
    found = read(tmp_path)
    (event,) = found.Images("one")
    assert (event.step, event.height, event.width) == (1, 4, 5)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)
    assert found.Tags()["images"] == ["one", "many/0", "many/1"]


def test_texts_are_there(tmp_path: Path) -> None:
    with Tracker([TensorboardWriter(tmp_path)]) as current:
        current.declare(Kind.TEXT, "note")
        current.save(3, note="grüße")
    (event,) = read(tmp_path).Tensors("note")
    assert (event.step, event.tensor_proto.string_val[0].decode()) == (3, "grüße")


def hparams_tab(folder: Path) -> list[Any]:
    """Return the session groups that TensorBoard's HPARAMS tab shows."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(
        base_plugin.TBContext(data_provider=provider, logdir=str(folder))
    )
    request = RequestContext()
    experiment = context.experiment_from_metadata(
        request,
        "",
        True,
        context.hparams_metadata(request, ""),
        context.hparams_from_data_provider(request, "", 1000),
    )
    statuses = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING]
    names = [info.name for info in experiment.metric_infos]
    assert {n.tag for n in names} == {"loss", "accuracy"}
    columns = [api_pb2.ColParams(metric=name, include_in_result=True) for name in names]
    columns += [
        api_pb2.ColParams(hparam=info.name, include_in_result=True)
        for info in experiment.hparam_infos
    ]
    asked = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=statuses, col_params=columns, start_index=0, slice_size=10
    )
    handler = list_session_groups.Handler(request, context, "", asked)
    return list(handler.run().session_groups)


def test_the_hparams_tab_shows_runs_with_their_final_metrics(tmp_path: Path) -> None:
    for i, status in enumerate(["completed", "failed"]):
        current = Tracker([TensorboardWriter(tmp_path / f"run{i}")])
        current.start({"lr": 0.1 * (i + 1), "optimizer": "sgd", "deep": True, "sizes": [3, 5]})
        for step in range(5):
            current.save(step, loss=5.0 - step, accuracy=i + step / 8)
        current.close(status=status)
    groups = hparams_tab(tmp_path)
    found = sorted(
        (
            group.hparams["lr"].number_value,
            group.hparams["optimizer"].string_value,
            group.hparams["deep"].bool_value,
            group.hparams["sizes"].string_value,
            {m.name.tag: (m.value, m.training_step) for m in group.metric_values},
            group.sessions[0].status,
        )
        for group in groups
    )
    assert found == [
        (0.1, "sgd", True, "[3, 5]", {"loss": (1.0, 4), "accuracy": (0.5, 4)}, 1),
        (0.2, "sgd", True, "[3, 5]", {"loss": (1.0, 4), "accuracy": (1.5, 4)}, 2),
    ]


def test_a_run_that_goes_on_takes_back_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    with Tracker([TensorboardWriter(tmp_path)]) as first:
        for step in range(10):
            first.save(step, x=1.0)
    second = Tracker([TensorboardWriter(tmp_path)])
    second.truncate(5)
    with second:
        for step in range(6, 8):
            second.save(step, x=2.0)
    points = [(e.step, e.value) for e in read(tmp_path).Scalars("x")]
    assert points == [(s, 1.0) for s in range(6)] + [(6, 2.0), (7, 2.0)]


def test_two_writers_of_one_process_have_files_of_their_own(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        with Tracker([TensorboardWriter(tmp_path)]) as current:
            current.save(1, x=value)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("length", [0, 1, 3, 8, 255, 1000])
def test_records_are_those_of_tensorboards_own_writer(length: int) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    from lab_core.writers.records import framed

    record = np.random.default_rng(length).bytes(length)
    expected = io.BytesIO()
    RecordWriter(expected).write(record)
    assert framed(record) == expected.getvalue()


@pytest.mark.parametrize("many_rows", [0, 1000])
def test_scalars_measured_together_are_one_event_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many_rows: int
) -> None:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    from lab_core.writers import events
    from lab_core.writers.base import Batch, ScalarColumn

    monkeypatch.setattr(events, "_MANY_ROWS", many_rows)
    steps = [0, 1, 127, 128, 300, 2**14, 2**35, 5, 2**62, 2**63 - 1]
    times = [1.8e9 + 0.1 * i for i in range(len(steps))]
    values = [[0.0, -1.5, math.inf, 1e-40, 1e300, 3.0, 0.1, -0.0, 2.0, -math.inf], [0.5] * 10]
    columns = [ScalarColumn(f"ünder/{i}", steps, v, times) for i, v in enumerate(values)]
    file = tmp_path / "events"
    file.write_bytes(events.of_batch(Batch(tuple(columns))))
    found = [Event.FromString(event) for event in RawEventFileLoader(str(file)).Load()]
    assert [e.step for e in found] == steps
    assert [e.wall_time for e in found] == times
    assert [v.tag for v in found[0].summary.value] == ["ünder/0", "ünder/1"]
    with np.errstate(over="ignore"):
        expected = np.asarray(values).astype(np.float32).T.tolist()
    assert [[v.simple_value for v in e.summary.value] for e in found] == expected


def test_a_long_table_of_scalars_is_what_protobuf_makes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lab_core.writers import events

    name = "n" * 200  # lengths of two bytes
    steps = [*range(1, 300), 2**28]
    times = [1.0 * step for step in steps]
    columns = tuple(ScalarColumn(f"{name}{i}", steps, [i + 0.5] * 300, times) for i in range(100))
    made = events.of_batch(Batch(columns))
    monkeypatch.setattr(events, "_MANY_ROWS", 1000)
    assert events.of_batch(Batch(columns)) == made


def test_a_write_that_fails_half_way_leaves_a_file_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    from lab_core.writers.records import RecordFile, framed

    path = tmp_path / "records"
    file = RecordFile(path)
    file.append(framed(b"first"))
    real = file._file

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def write(self, data: bytes) -> int:
            real.write(bytes(data)[:7])
            raise OSError(28, "No space left on device")

    file._file = Full()
    with pytest.raises(OSError, match="No space"):
        file.append(framed(b"second"))
    file._file = real
    file.append(framed(b"third"))
    file.close()
    assert list(RawEventFileLoader(str(path)).Load()) == [b"first", b"third"]


def test_a_disk_that_takes_nothing_gets_no_new_file_for_each_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab_core.writers.records import RecordFile

    append = RecordFile.append

    def refuse(self: RecordFile, records: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordFile, "append", refuse)
    writer = TensorboardWriter(tmp_path)
    batch = Batch((ScalarColumn("x", [1], [0.5], [1.0]),))
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            writer.write(batch)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(RecordFile, "append", append)
    writer.write(batch)
    writer.close()
    assert [e.value for e in read(tmp_path).Scalars("x")] == [0.5]


def test_without_tensorboard_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "lab_core.writers.events", raising=False)
    monkeypatch.delattr("lab_core.writers.events", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(SettingsError, match="the tensorboard writer needs tensorboard"):
        TensorboardWriter(tmp_path).write(Batch((ScalarColumn("x", [1], [0.5], [1.0]),)))
    with Tracker([TensorboardWriter(tmp_path)]) as current:
        current.save(1, x=1.0)
        current.flush()
        current.save(2, x=1.0)
    failed, lost = [r.getMessage() for r in caplog.records]
    assert "pip install 'lab-train[core]'" in failed
    assert "lost 2 values, of steps 1 to 2" in lost
