"""An in-memory twin of the service, on a real port: it speaks the real protos, but trains nothing.

Faults are set on it from the test: answers that fail, streams that are cut. It runs in a thread with
an event loop of its own, so that blocking and asyncio clients can both talk to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from lab_rpc import uploads as rules
from lab_rpc.metric_names import matcher
from lab_rpc.v1 import config_pb2, event_pb2, run_pb2, training_service_pb2_grpc
from lab_rpc.v1 import training_service_pb2 as pb

Code = grpc.StatusCode
TERMINAL = (
    event_pb2.RUN_STATE_COMPLETED,
    event_pb2.RUN_STATE_STOPPED,
    event_pb2.RUN_STATE_FAILED,
)


async def refuse(context: Any, code: int, message: str, *details: Any) -> None:
    packed = []
    for detail in details:
        item = AnyMessage()
        item.Pack(detail)
        packed.append(item)
    status = rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed))
    await context.abort_with_status(status)


def bad_request(**violations: str) -> Any:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in violations.items()
        ]
    )


_CONTENTS = {
    pb.MEDIA_KIND_IMAGE: "image",
    pb.MEDIA_KIND_TEXT: "text",
    pb.MEDIA_KIND_HISTOGRAM: "histogram",
    pb.MEDIA_KIND_INDEXED: "indexed",
}


class TwinRun:
    """A run and its log; `add` appends an event with the next seq."""

    def __init__(self, twin: Twin, message: run_pb2.Run) -> None:
        self.twin = twin
        self.message = message
        self.log: list[event_pb2.RunEvent] = []
        self.files: dict[str, bytes] = {}

    def add(self, **kind: Any) -> event_pb2.RunEvent:
        event = event_pb2.RunEvent(
            seq=len(self.log) + 1, attempt=self.message.attempt, time_unix_ns=10**18, **kind
        )
        self.log.append(event)
        self.message.last_seq = event.seq
        self.twin.position.append((self, event))
        self.twin.wake()
        return event

    def state(self, state: int, reason: str = "") -> None:
        self.message.state = state  # type: ignore[assignment]
        self.message.reason = reason
        self.add(state=event_pb2.StateChange(state=state, reason=reason))  # type: ignore[arg-type]

    def measure(self, first_step: int, **columns: list[float]) -> None:
        num_steps = len(next(iter(columns.values())))
        steps = range(first_step, first_step + num_steps)
        self.message.step = steps[-1]
        for name, values in columns.items():
            self.message.metrics[name] = values[-1]
        self.add(
            metrics=event_pb2.Metrics(
                steps=steps,
                columns=[
                    event_pb2.MetricColumn(name=name, values=values)
                    for name, values in columns.items()
                ],
            )
        )

    def train(self, num_events: int = 5, rows: int = 4) -> None:
        """Write the log of a run that starts, measures and completes."""
        self.message.attempt = 1
        self.state(event_pb2.RUN_STATE_RUNNING)
        for index in range(num_events):
            first = index * rows
            self.measure(first, loss=[1.0 / (1 + first + row) for row in range(rows)])
        self.state(event_pb2.RUN_STATE_COMPLETED)


class Twin(training_service_pb2_grpc.TrainingServiceServicer):
    """The service.

    Attributes:
        failures: by RPC, statuses to fail its next calls with, before anything is done.
        refusals: by RPC, the code, message and details to refuse its calls with.
        lost_answers: by RPC, how many of its next calls are done but answered UNAVAILABLE.
        cuts: for each of the next WatchRun, WatchMetrics or DownloadArtifact streams after how many
            answers it is cut; None lets it run; a negative number ends it with OK after so many.
        calls: how often each RPC was called.
        token: what every call must bring, when set.
    """

    def __init__(self) -> None:
        self.version = "0.1.0"
        self.runs: dict[str, TwinRun] = {}
        self.keys: dict[str, tuple[bytes, str]] = {}
        self.position: list[tuple[TwinRun, event_pb2.RunEvent]] = []
        self.failures: dict[str, deque[grpc.StatusCode]] = {}
        self.refusals: dict[str, tuple[Any, ...]] = {}
        self.lost_answers: Counter[str] = Counter()
        self.cuts: deque[int | None] = deque()
        self.warnings: list[str] = []
        self.calls: Counter[str] = Counter()
        self.requests: list[Any] = []
        self.token = ""
        self.uploads: dict[str, dict[str, bytes]] = {}
        self.queue_limit = 4
        self.absent_leader = ""
        self.events_per_answer = 1
        self.skip_seq: int | None = None
        self.hang_streams = 0
        self.address = ""
        self.is_watched = threading.Event()
        self._changed: asyncio.Event | None = None
        self._loop = asyncio.new_event_loop()
        self._server: grpc.aio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    # Life.

    def start(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> Twin:
        if not self._thread.is_alive():
            self._thread.start()
        self._on_loop(self._start(port, credentials))
        return self

    def stop(self) -> None:
        """Cut all connections, as a killed server does."""
        if self._server is not None:
            self._on_loop(self._server.stop(None))
            self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def restart(self) -> None:
        port = int(self.address.rpartition(":")[2])
        self.stop()
        self.start(port)

    def wake(self) -> None:
        def fire() -> None:
            if self._changed is not None:
                self._changed.set()
                self._changed = asyncio.Event()

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(fire)

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self, port: int, credentials: grpc.ServerCredentials | None) -> None:
        self._changed = self._changed or asyncio.Event()
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call, unused-ignore]
        where = f"127.0.0.1:{port}"
        if credentials is None:
            bound = self._server.add_insecure_port(where)
        else:
            bound = self._server.add_secure_port(where, credentials)
        self.address = f"127.0.0.1:{bound}"
        await self._server.start()

    # What the test prepares.

    def when_watched(self, do: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Do something as soon as a stream is open."""

        def wait() -> None:
            self.is_watched.wait()
            do(*arguments, **named)

        threading.Thread(target=wait, daemon=True).start()

    def add_run(self, **fields: Any) -> TwinRun:
        run_id = f"20261123-{len(self.runs):06d}"
        message = run_pb2.Run(
            id=run_id, experiment="mnist", name="mnist", state=event_pb2.RUN_STATE_CREATED
        )
        message.MergeFrom(run_pb2.Run(**fields))
        run = self.runs[message.id] = TwinRun(self, message)
        return run

    # The service.

    async def _enter(self, rpc: str, request: Any, context: Any) -> None:
        self.calls[rpc] += 1
        self.requests.append(request)
        if self.token:
            sent = dict(context.invocation_metadata()).get("authorization", "")
            if sent != f"Bearer {self.token}":
                await refuse(context, code_pb2.UNAUTHENTICATED, "the token is not known here")
        if rpc in self.refusals:
            await refuse(context, *self.refusals[rpc])
        if self.failures.get(rpc):
            await context.abort(self.failures[rpc].popleft(), f"{rpc} fails as the test says")

    async def _leave(self, rpc: str, context: Any) -> None:
        if self.lost_answers[rpc] > 0:
            self.lost_answers[rpc] -= 1
            await context.abort(Code.UNAVAILABLE, "the answer was lost")

    async def _find(self, run_id: str, context: Any) -> TwinRun:
        found = [run for key, run in self.runs.items() if key.startswith(run_id)]
        if len(found) != 1 or not run_id:
            await refuse(
                context,
                code_pb2.NOT_FOUND,
                f"there is no run {run_id!r}; list them with: lab runs",
                error_details_pb2.ResourceInfo(resource_type="run", resource_name=run_id),
            )
        return found[0]

    async def _check(self, experiment: str, config: config_pb2.ConfigMessage, context: Any) -> None:
        if experiment != "mnist":
            await refuse(
                context,
                code_pb2.NOT_FOUND,
                f"there is no experiment {experiment!r}",
                error_details_pb2.ResourceInfo(
                    resource_type="experiment", resource_name=experiment
                ),
            )
        known = {"epochs", "conv1_kernal", "learning_rate", "seed", "betas", "dataset"}
        wrong = {key: f"unknown config {key!r}" for key in config.overrides if key not in known}
        if "epochs" in config.overrides and config.overrides["epochs"].int_value < 0:
            wrong["epochs"] = "epochs must be at least 1"
        if wrong:
            await refuse(
                context, code_pb2.INVALID_ARGUMENT, "; ".join(wrong.values()), bad_request(**wrong)
            )

    async def GetServerInfo(self, request: Any, context: Any) -> Any:
        await self._enter("GetServerInfo", request, context)
        return pb.GetServerInfoResponse(
            version=self.version,
            slots=[] if self.absent_leader else [pb.Slot(name="cpu:0")],
            queue_limit=self.queue_limit,
            absent_leader=self.absent_leader,
            principal="me" if self.token else "",
            role="admin",
        )

    async def OpenDashboard(self, request: Any, context: Any) -> Any:
        await self._enter("OpenDashboard", request, context)
        return pb.OpenDashboardResponse(url="http://127.0.0.1:8080", code="c" if self.token else "")

    async def ListExperiments(self, request: Any, context: Any) -> Any:
        await self._enter("ListExperiments", request, context)
        return pb.ListExperimentsResponse(experiments=[{"name": "mnist", "summary": "A CNN."}])  # type: ignore[list-item]

    async def GetExperiment(self, request: Any, context: Any) -> Any:
        await self._enter("GetExperiment", request, context)
        await self._check_upload(request, context)
        await self._check(request.name, config_pb2.ConfigMessage(), context)
        answer = pb.GetExperimentResponse()
        answer.experiment.name = "mnist"
        answer.experiment.summary = "A CNN."
        answer.schema.doc = "A CNN.\n\nFor digits."
        item = answer.schema.items.add(
            key="epochs", type="int", doc="How often", is_hyperparam=True
        )
        item.default_value.int_value = 10
        item.constraints.add(rule="ge", operand=config_pb2.Value(int_value=1))
        answer.schema.items.add(key="widths", type="list[int]", doc="Units of each layer")
        answer.schema.items.add(
            key="dataset", type="object", options=["mnist_5k", "mnist"], doc="The digits"
        )
        answer.schema.run_targets.append("main")
        answer.schema.default_run_order.add(names=["set_seed", "main"])
        return answer

    async def PlanRun(self, request: Any, context: Any) -> Any:
        await self._enter("PlanRun", request, context)
        await self._check_upload(request, context)
        await self._check(request.experiment, request.config, context)
        answer = pb.PlanRunResponse()
        answer.plan.experiment = request.experiment
        answer.plan.hash = "abc"
        for key, value in sorted(request.config.overrides.items()):
            answer.plan.items.add(
                key=key, value=value, origin=config_pb2.VALUE_ORIGIN_OVERRIDE, is_hyperparam=True
            )
        answer.plan.items.add(
            key="dataset",
            option="mnist_5k",
            other_options=["mnist"],
            origin=config_pb2.VALUE_ORIGIN_OPTION,
        )
        return answer

    async def UploadCode(self, request_iterator: Any, context: Any) -> Any:
        parts = [part async for part in request_iterator]
        await self._enter("UploadCode", parts, context)
        manifest, data = parts[0].manifest, b"".join(part.data for part in parts[1:])
        files: dict[str, bytes] = {}
        for file in manifest.files:
            files[file.path], data = data[: file.size_bytes], data[file.size_bytes :]
            assert hashlib.sha256(files[file.path]).hexdigest() == file.sha256
        assert not data
        hashes = {file.path: file.sha256 for file in manifest.files}
        upload_id = rules.upload_id(manifest.module, hashes)
        self.uploads[upload_id] = files
        await self._leave("UploadCode", context)
        return pb.UploadCodeResponse(upload_id=upload_id)

    async def _check_upload(self, request: Any, context: Any) -> None:
        """Take an upload's experiment for mnist, once the code was sent."""
        if not request.upload_id:
            return
        if request.upload_id not in self.uploads:
            info = error_details_pb2.ResourceInfo(
                resource_type="upload", resource_name=request.upload_id
            )
            await refuse(context, code_pb2.NOT_FOUND, "there is no such upload", info)
        field = (
            "name" if hasattr(request, "name") and not hasattr(request, "config") else "experiment"
        )
        if not getattr(request, field):
            setattr(request, field, "mnist")

    async def CreateRun(self, request: Any, context: Any) -> Any:
        await self._enter("CreateRun", request, context)
        await self._check_upload(request, context)
        await self._check(request.experiment, request.config, context)
        raw = request.SerializeToString(deterministic=True)
        known, run_id = self.keys.get(request.idempotency_key, (raw, ""))
        if known != raw:
            await refuse(context, code_pb2.ALREADY_EXISTS, "the key belongs to another request")
        if not run_id:
            run = self.add_run(
                experiment=request.experiment,
                name=request.name or request.experiment,
                tags=request.tags,
                notes=request.notes,
                config=request.config,
                options=request.options,
                parent=request.parent if request.HasField("parent") else None,
                upload_id=request.upload_id,
            )
            run_id = run.message.id
            self.keys[request.idempotency_key] = (raw, run_id)
            run.state(event_pb2.RUN_STATE_CREATED)
        await self._leave("CreateRun", context)
        return pb.CreateRunResponse(run=self.runs[run_id].message)

    async def StartRun(self, request: Any, context: Any) -> Any:
        await self._enter("StartRun", request, context)
        run = await self._find(request.run_id, context)
        if request.idempotency_key not in self.keys:
            allowed = TERMINAL if request.resume else (event_pb2.RUN_STATE_CREATED,)
            if run.message.state not in allowed:
                await refuse(context, code_pb2.FAILED_PRECONDITION, "the run was started before")
            queued = [
                r for r in self.runs.values() if r.message.state == event_pb2.RUN_STATE_QUEUED
            ]
            if len(queued) >= self.queue_limit:
                await refuse(
                    context,
                    code_pb2.RESOURCE_EXHAUSTED,
                    "the queue is full (4)",
                    error_details_pb2.ErrorInfo(reason="QUEUE_FULL"),
                )
            self.keys[request.idempotency_key] = (b"", run.message.id)
            run.message.until_step = request.until_step
            run.state(event_pb2.RUN_STATE_QUEUED)
        await self._leave("StartRun", context)
        return pb.StartRunResponse(run=run.message)

    async def GetRun(self, request: Any, context: Any) -> Any:
        await self._enter("GetRun", request, context)
        return pb.GetRunResponse(run=(await self._find(request.run_id, context)).message)

    async def ListRuns(self, request: Any, context: Any) -> Any:
        await self._enter("ListRuns", request, context)
        if request.page_token and not request.page_token.isdecimal():
            await refuse(
                context, code_pb2.INVALID_ARGUMENT, "bad", bad_request(page_token="not a token")
            )
        runs = [
            run.message
            for run in reversed(self.runs.values())
            if (not request.states or run.message.state in request.states)
            and set(request.tags) <= set(run.message.tags)
            and request.name_contains in run.message.name
            and request.experiment in ("", run.message.experiment)
        ]
        first = int(request.page_token or 0)
        last = first + min(request.page_size or 100, 3)
        more = str(last) if last < len(runs) else ""
        return pb.ListRunsResponse(
            runs=runs[first:last],
            next_page_token=more,
            num_all=0 if request.page_token else len(runs),
            warnings=self.warnings,
        )

    async def UpdateRun(self, request: Any, context: Any) -> Any:
        await self._enter("UpdateRun", request, context)
        run = await self._find(request.run_id, context)
        kept = [tag for tag in run.message.tags if tag not in request.remove_tags]
        del run.message.tags[:]
        run.message.tags.extend([*kept, *request.add_tags])
        for path in request.update_mask.paths:
            if path == "tags":
                del run.message.tags[:]
                run.message.tags.extend(request.tags)
            else:
                setattr(run.message, path, getattr(request, path))
        return pb.UpdateRunResponse(run=run.message)

    async def DeleteRun(self, request: Any, context: Any) -> Any:
        await self._enter("DeleteRun", request, context)
        run = await self._find(request.run_id, context)
        if run.message.state not in (*TERMINAL, event_pb2.RUN_STATE_CREATED):
            await refuse(context, code_pb2.FAILED_PRECONDITION, "the run has not ended; stop it")
        del self.runs[run.message.id]
        await self._leave("DeleteRun", context)
        return pb.DeleteRunResponse()

    async def SaveCheckpoint(self, request: Any, context: Any) -> Any:
        await self._enter("SaveCheckpoint", request, context)
        run = await self._find(request.run_id, context)
        if run.message.state != event_pb2.RUN_STATE_RUNNING:
            await refuse(context, code_pb2.FAILED_PRECONDITION, "only a run that trains can save")
        answer = pb.SaveCheckpointResponse(run=run.message)
        run.add(checkpoint=event_pb2.Checkpoint(step=run.message.step))
        return answer

    async def StopRun(self, request: Any, context: Any) -> Any:
        await self._enter("StopRun", request, context)
        run = await self._find(request.run_id, context)
        if run.message.state in TERMINAL:
            await refuse(context, code_pb2.FAILED_PRECONDITION, "the run has ended already")
        if request.checkpoint:
            run.message.checkpoint_step = run.message.step
        run.state(event_pb2.RUN_STATE_STOPPED, "asked to")
        return pb.StopRunResponse(run=run.message)

    async def _cut(self, sent: int, cut: int | None, context: Any) -> bool:
        """Cut the stream when the test says so; True when it is to end with OK."""
        if cut is None or sent != abs(cut):
            return False
        if cut >= 0:
            await context.abort(Code.UNAVAILABLE, "the connection was cut")
        return True

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter("WatchRun", request, context)
        run = await self._find(request.run_id, context)
        cut = self.cuts.popleft() if self.cuts else None
        if self.hang_streams > 0:
            self.hang_streams -= 1
            await asyncio.Event().wait()
        seq, sent = request.after_seq, 0
        self.is_watched.set()
        while not await self._cut(sent, cut, context):
            changed = self._changed
            events = run.log[seq : seq + self.events_per_answer]
            if events:
                seq = events[-1].seq
                sent += 1
                kept = [event for event in events if event.seq != self.skip_seq]
                yield pb.WatchRunResponse(events=kept)
            elif run.message.state in TERMINAL and run.log[-1].HasField("state"):
                return
            else:
                assert changed is not None
                yield pb.WatchRunResponse()
                await changed.wait()

    async def WatchMetrics(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter("WatchMetrics", request, context)
        cut = self.cuts.popleft() if self.cuts else None
        at = int(request.cursor or (0 if request.from_start else len(self.position)))
        sent = 0
        self.is_watched.set()
        yield pb.WatchMetricsResponse(cursor=str(at))
        while not await self._cut(sent, cut, context):
            changed = self._changed
            if at >= len(self.position):
                assert changed is not None
                await changed.wait()
                continue
            batches = [
                pb.RunMetrics(run_id=run.message.id, experiment=run.message.experiment, event=event)
                for run, event in self.position[at : at + 2]
                if event.WhichOneof("kind") in ("metrics", "truncate", "state")
            ]
            at = min(at + 2, len(self.position))
            sent += 1
            yield pb.WatchMetricsResponse(batches=batches, cursor=str(at))

    async def QueryMetrics(self, request: Any, context: Any) -> Any:
        await self._enter("QueryMetrics", request, context)
        run = await self._find(request.run_id, context)
        is_wanted = matcher(request.names)
        series: dict[str, dict[int, float]] = {}
        for event in run.log:
            if event.HasField("truncate"):
                after = event.truncate.after_step
                series = {
                    name: {s: v for s, v in points.items() if s <= after}
                    for name, points in series.items()
                }
            for column in event.metrics.columns:
                if is_wanted(column.name):
                    points = series.setdefault(column.name, {})
                    points.update(zip(event.metrics.steps, column.values, strict=True))
        return pb.QueryMetricsResponse(
            series=[
                pb.MetricSeries(
                    name=name,
                    steps=sorted(points),
                    values=[points[step] for step in sorted(points)],
                    num_points=len(points),
                    min_value=min(points.values()),
                    max_value=max(points.values()),
                    last_value=points[max(points)],
                )
                for name, points in series.items()
            ]
        )

    async def QueryMedia(self, request: Any, context: Any) -> Any:
        """Answer with one event a page."""
        await self._enter("QueryMedia", request, context)
        run = await self._find(request.run_id, context)
        content = _CONTENTS[request.kind]
        is_wanted = matcher(request.names)
        least = request.min_step if request.HasField("min_step") else -math.inf
        most = request.max_step if request.HasField("max_step") else math.inf
        told = [event.media for event in run.log if event.HasField("media")]
        page = int(request.page_token or 0)
        items = [
            item
            for item in (told[page].items if page < len(told) else ())
            if item.WhichOneof("content") == content
            and is_wanted(item.name)
            and least <= item.step <= most
        ]
        token = str(page + 1) if page + 1 < len(told) else ""
        return pb.QueryMediaResponse(items=items, next_page_token=token)

    async def ListArtifacts(self, request: Any, context: Any) -> Any:
        await self._enter("ListArtifacts", request, context)
        run = await self._find(request.run_id, context)
        return pb.ListArtifactsResponse(
            artifacts=[
                event_pb2.Artifact(path=path, size_bytes=len(data))
                for path, data in run.files.items()
            ]
        )

    async def DownloadArtifact(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._enter("DownloadArtifact", request, context)
        run = await self._find(request.run_id, context)
        if request.path not in run.files:
            await refuse(
                context,
                code_pb2.NOT_FOUND,
                f"the run has no file {request.path!r}",
                error_details_pb2.ResourceInfo(
                    resource_type="artifact", resource_name=request.path
                ),
            )
        data = run.files[request.path]
        if request.offset > len(data):
            await refuse(
                context, code_pb2.INVALID_ARGUMENT, "behind", bad_request(offset="behind the end")
            )
        cut = self.cuts.popleft() if self.cuts else None
        size = 1000
        for sent, first in enumerate(range(request.offset, len(data), size)):
            await self._cut(sent, cut, context)
            yield pb.DownloadArtifactResponse(data=data[first : first + size], size_bytes=len(data))
        yield pb.DownloadArtifactResponse(sha256=hashlib.sha256(data).hexdigest())
