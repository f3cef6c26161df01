"""Anything at all, sent to every RPC of a real server: no INTERNAL, no UNKNOWN, no harm.

LAB_FUZZ_MESSAGES=20000 for a long run, whose messages are new ones each time.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lab_rpc.v1 import training_service_pb2, training_service_pb2_grpc
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

pb = training_service_pb2
SERVICE = pb.DESCRIPTOR.services_by_name["TrainingService"]
EXPERIMENTS = Path(__file__).parents[1] / "experiments.py"

NUM_MESSAGES = int(os.environ.get("LAB_FUZZ_MESSAGES", "0")) or 800
IS_LONG = "LAB_FUZZ_MESSAGES" in os.environ
FORBIDDEN = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"}
STREAM_S = 0.05
MAX_GROWTH_BYTES = 100 << 20

# Known to the server, so that messages get behind the first check.
KNOWN = ["counting", "raises", "mnist", "steps", "step_s", "run", "name", "tags", "notes", "cpu"]
NASTY = [
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "runs/../../x",
    "a\0b",
    "\n",
    "\r\nx: y",
    "\u2028",
    "\u202e",
    "ünïcödé",
    "😀" * 100,
    "%s%n",
    "'; drop table runs; --",
    "${jndi:x}",
    "nan",
    "-1",
    "9" * 40,
    "x" * 300,
    "x" * 1_000_000,
    "*" * 200,
    "[" * 200,
    "metrics.",
    "metrics.loss desc",
    "create_time desc",
]
INTS = [0, 1, -1, 2, 255, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324]
_BOUNDS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server whose home is alone in a folder that is alone in a folder."""
    home = tmp_path_factory.mktemp("fuzz") / "around" / "home"
    flags = ("--slots", "cpu:1", "--experiments", str(EXPERIMENTS), "--log-level", "warning")
    started = start_server(home, *flags)
    yield started
    started.stop()


@dataclass(frozen=True)
class Palette:
    """What values a message is made of."""

    texts: st.SearchStrategy[str]
    ints: st.SearchStrategy[int]
    floats: st.SearchStrategy[float]


def palettes(run_ids: list[str]) -> tuple[Palette, Palette]:
    """Return a mild one, whose messages get far into the server, and a wild one."""
    known = st.one_of(st.sampled_from(run_ids), st.sampled_from(KNOWN))
    return (
        Palette(known, st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0])),
        Palette(
            st.one_of(known, st.sampled_from(NASTY), st.text(max_size=20)),
            st.one_of(st.sampled_from(INTS), st.integers(-9, 9)),
            st.sampled_from(FLOATS),
        ),
    )


def fill(draw: Any, message: Message, palette: Palette, depth: int = 0) -> None:
    """Set some of a message's fields to something."""
    for field in message.DESCRIPTOR.fields:
        if depth <= 4 and draw(st.integers(0, 3)):
            _set(draw, message, field, palette, depth)


def _set(draw: Any, message: Message, field: Any, palette: Palette, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for _ in range(draw(st.integers(0, 3))):
            key = draw(palette.texts)
            fill(draw, getattr(message, field.name)[key], palette, depth + 1)
    elif field.message_type is not None:
        holder = getattr(message, field.name)
        if not field.is_repeated:
            holder.SetInParent()
            fill(draw, holder, palette, depth + 1)
        for _ in range(draw(st.integers(0, 3)) if field.is_repeated else 0):
            fill(draw, holder.add(), palette, depth + 1)
    elif field.is_repeated:
        values = [_scalar(draw, field, palette) for _ in range(draw(st.integers(0, 4)))]
        getattr(message, field.name).extend(values)
    else:
        setattr(message, field.name, _scalar(draw, field, palette))


def _scalar(draw: Any, field: Any, palette: Palette) -> Any:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw(st.binary(max_size=200))
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return draw(palette.texts)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return draw(st.booleans())
    if kind in _BOUNDS:
        least, most = _BOUNDS[kind]
        return min(max(draw(palette.ints), least), most)
    return draw(palette.floats)


@st.composite
def calls(draw: Any, run_ids: list[str]) -> tuple[str, bytes]:
    """Return an RPC and bytes for it: a message of its kind, a damaged one, or no message at all."""
    method = draw(st.sampled_from(sorted(SERVICE.methods_by_name)))
    if SERVICE.methods_by_name[method].server_streaming and draw(st.integers(0, 3)):
        method = "GetRun"  # streams are slow: less of them
    message = getattr(pb, f"{method}Request")()
    fill(draw, message, draw(st.sampled_from(palettes(run_ids))))
    data: bytes = message.SerializeToString()
    damage = draw(st.integers(0, 5))
    if damage == 0:
        return method, draw(st.binary(max_size=200))
    if damage == 1 and data:
        at = draw(st.integers(0, len(data) - 1))
        return method, data[:at] + draw(st.binary(max_size=4)) + data[at + 1 :]
    return method, data


def test_nothing_that_is_sent_does_harm(fuzzed: RealServer) -> None:
    process = psutil.Process(fuzzed.process.pid)
    codes: Counter[str] = Counter()
    memory: list[int] = []
    with grpc.insecure_channel(
        fuzzed.address, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        run_ids = [
            stub.CreateRun(pb.CreateRunRequest(experiment=name), timeout=120).run.id
            for name in ("counting", "counting", "raises")
        ]

        @settings(
            max_examples=NUM_MESSAGES,
            deadline=None,
            database=None,
            derandomize=not IS_LONG,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(calls(run_ids))
        def send(call: tuple[str, bytes]) -> None:
            method, data = call
            code = _code(channel, method, data)
            codes[code] += 1
            assert code not in FORBIDDEN, (code, method, data[:500])
            if codes.total() % 100 == 0:
                memory.append(process.memory_info().rss)

        send()
        # it goes on serving those who mean well
        run = stub.CreateRun(pb.CreateRunRequest(experiment="counting"), timeout=120).run
        stub.DeleteRun(pb.DeleteRunRequest(run_id=run.id), timeout=120)
    growth = memory[-1] - memory[len(memory) // 4]
    print(f"{codes.total()} messages: {dict(codes)}; memory grew by {growth >> 20} MiB")
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(codes)
    assert growth < MAX_GROWTH_BYTES
    around = fuzzed.home.parent
    assert [path.name for path in around.iterdir()] == ["home"]
    assert [path.name for path in around.parent.iterdir()] == ["around"]
    assert "unexpected error" not in fuzzed.log.read_text()


def _code(channel: grpc.Channel, method: str, data: bytes) -> str:
    path = f"/{SERVICE.full_name}/{method}"
    is_stream = SERVICE.methods_by_name[method].server_streaming
    make: Any = channel.unary_stream if is_stream else channel.unary_unary
    try:
        if is_stream:
            for _ in make(path)(data, timeout=STREAM_S):
                pass
        else:
            make(path)(data, timeout=60)
    except grpc.RpcError as error:
        name: str = error.code().name
        return "OK" if is_stream and name == "DEADLINE_EXCEEDED" else name
    return "OK"
