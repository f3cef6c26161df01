"""Convert batches to TensorBoard's `Event` messages, as its files have them. Imports tensorboard, not tensorflow."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from lab_core.writers.base import Batch, HistogramPoint, HparamValue, ImagePoint, ScalarGroup
from lab_core.writers.records import framed
from lab_core.writers.scalar_events import framed_scalars
from lab_core.writers.summaries import histogram

_COLORSPACES = {1: 1, 3: 3, 4: 4}  # number of channels -> grey, RGB, RGBA
_MANY_ROWS = 128  # of a table that numpy makes sooner, when what it needs is in no cache
_STATUS = {
    "completed": api_pb2.STATUS_SUCCESS,
    "stopped": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
}


def of_batch(batch: Batch) -> bytes:
    """Return a batch as events, framed; scalars of the same step share one event."""
    out: list[bytes] = []
    for group in batch.groups():
        is_long = len(group.steps) >= _MANY_ROWS
        out += framed_scalars(group) if is_long else map(framed, _scalars(group))
    return b"".join([*out, *map(framed, _others(batch))])


def _others(batch: Batch) -> list[bytes]:
    out = [_event(h.step, h.time, [_histogram(h)]) for h in batch.histograms]
    for at in batch.indexed:
        spread = histogram(at.name, at.step, at.time, list(at.values))
        out.append(_event(at.step, at.time, [_histogram(spread)]))
    out += [_event(i.step, i.time, list(_images(i))) for i in batch.images]
    out += [_event(t.step, t.time, [_text(t.name, t.text)]) for t in batch.texts]
    return out


def version(time_s: float) -> bytes:
    """Return the first event of a file, framed as all others here."""
    return framed(Event(wall_time=time_s, file_version="brain.Event:2").SerializeToString())


def restart(step: int) -> bytes:
    """Return the event that makes TensorBoard drop its points at `step` and later."""
    log = SessionLog(status=SessionLog.START)
    return framed(Event(wall_time=time.time(), step=step, session_log=log).SerializeToString())


def session_start(hparams: Mapping[str, HparamValue]) -> bytes:
    """Return the event with a run's hyper-parameters."""
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in hparams.items():
        held = start.hparams[name]
        if isinstance(value, bool):
            held.bool_value = value
        elif isinstance(value, (int, float)):
            held.number_value = value
        else:
            held.string_value = value if isinstance(value, str) else json.dumps(value, default=str)
    data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    return _hparams(metadata.SESSION_START_INFO_TAG, data)


def session_end(status: str) -> bytes:
    """Return the event with the final status of a run."""
    end = plugin_data_pb2.SessionEndInfo(
        status=_STATUS.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=time.time()
    )
    return _hparams(
        metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end)
    )


def _event(step: int, time_s: float, values: list[Any]) -> bytes:
    out: bytes = Event(
        wall_time=time_s, step=step, summary=Summary(value=values)
    ).SerializeToString()
    return out


def _scalars(group: ScalarGroup) -> Iterator[bytes]:
    event = Event()
    values = [event.summary.value.add(tag=column.name) for column in group.columns]
    rows = zip(*[column.values for column in group.columns], strict=True)
    for step, time_s, row in zip(group.steps, group.times, rows, strict=True):
        event.step, event.wall_time = step, time_s
        for value, number in zip(values, row, strict=True):
            value.simple_value = number
        yield event.SerializeToString()


def _histogram(point: HistogramPoint) -> Any:
    counts = point.counts or (0,)
    low, high = point.edges[0], point.edges[-1]
    spread = HistogramProto(
        min=low,
        max=high,
        num=sum(counts),
        sum=point.total,
        sum_squares=point.sum_squares,
        bucket_limit=point.edges[1:] or (low,),
        bucket=counts,
    )
    return Summary.Value(tag=point.name, histo=spread)


def _images(point: ImagePoint) -> Iterator[Any]:
    from PIL import Image

    for i, image_HWC in enumerate(point.images_HWC):  # noqa: N806
        height, width, num_channels = image_HWC.shape
        encoded = io.BytesIO()
        picture = Image.fromarray(image_HWC[:, :, 0] if num_channels == 1 else image_HWC)
        picture.save(encoded, format="PNG")
        tag = point.name if len(point.images_HWC) == 1 else f"{point.name}/{i}"
        yield Summary.Value(
            tag=tag,
            image=Summary.Image(
                height=height,
                width=width,
                colorspace=_COLORSPACES[num_channels],
                encoded_image_string=encoded.getvalue(),
            ),
        )


def _text(name: str, text: str) -> Any:
    return Summary.Value(
        tag=name,
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(
            dtype=DT_STRING,
            string_val=[text.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        ),
    )


def _hparams(tag: str, data: Any) -> bytes:
    # TensorBoard reads only the metadata, but drops a summary without a value.
    value = Summary.Value(
        tag=tag,
        metadata=metadata.create_summary_metadata(data),
        tensor=TensorProto(dtype=DT_FLOAT, float_val=[0], tensor_shape=TensorShapeProto()),
    )
    return framed(_event(0, time.time(), [value]))
