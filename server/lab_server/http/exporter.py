"""The Prometheus series, computed at each scrape from the live state."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

import lab_server
from lab_rpc.metric_names import matcher
from lab_server.errors import StoreError
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.protocol import Executor, Usage
from lab_server.http.gpu_gauges import collect_gpus
from lab_server.model.run import Run, RunState, TrainerProcess
from lab_server.store import Store
from lab_server.supervisor.protocol import RunControl

# A run that tracks every parameter of a large model must not fill Prometheus.
MAX_METRICS_OF_A_RUN = 500
_RUN = ("experiment", "run")
_STORE_S = 3.0  # for its answer; Prometheus waits for 10


class Exporter:
    """Renders /metrics. Only runs with a process have series: their number is bounded by the slots."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        supervisor: RunControl,
        store: Store,
        executor: Executor,
        devices: Devices,
        home: Path,
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._store = store
        self._executor = executor
        self._live = LiveState(supervisor, store, devices, home)
        self._counting: asyncio.Task[Mapping[RunState, int]] | None = None
        registry.register(self._live)
        ProcessCollector(registry=registry)

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition in a format that the scraper accepts, and its content type."""
        live = [run.process for run in self._supervisor.live() if run.process]
        try:
            usages = await self._executor.usages(live)
        except OSError:  # there is no file descriptor to look with
            usages = {}
        counts = await self._counts()
        encode, content_type = exposition.choose_encoder(accept)
        # no await from here on: several may scrape at once
        self._live.usages, self._live.counts = usages, counts
        return encode(self._registry), content_type

    async def _counts(self) -> Mapping[RunState, int] | None:
        """Count the runs; None while the store does not answer: what needs no store is told all the more."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._store.counts())
            self._counting.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(_STORE_S):
                # shielded: a store that hangs is asked once, by however many scrapes
                return await asyncio.shield(self._counting)
        except (StoreError, TimeoutError):
            return None


class LiveState(Collector):
    """Collects the series of runs, queue, slots, devices and disk."""

    def __init__(self, supervisor: RunControl, store: Store, devices: Devices, home: Path) -> None:
        self._supervisor = supervisor
        self._store = store
        self._devices = devices
        self._home = home
        # Fetched by `scrape`, as collect() cannot await.
        self.counts: Mapping[RunState, int] | None = {}
        self.usages: Mapping[TrainerProcess, Usage] = {}

    def describe(self) -> Iterable[Metric]:
        """Describe nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        runs = [run for run in self._supervisor.live() if run.state.has_process]
        yield from self._service()
        yield from self._runs(runs)
        yield from collect_gpus(self._devices)

    def _service(self) -> Iterator[Metric]:
        counts = self.counts
        yield _gauge(
            "lab_server_info",
            "Always 1; the label has the server's version.",
            [((lab_server.__version__,), 1)],
            ("version",),
        )
        yield _gauge(
            "lab_server_leads",
            "1 on the server that queues, trains and writes, 0 on one that follows it.",
            [((), float(not self._store.leader))],
        )
        yield _gauge(
            "lab_store_up",
            "1 while the store answers, 0 while it does not.",
            [((), float(counts is not None))],
        )
        yield _gauge(
            "lab_store_lease_age_seconds",
            "Time since the leader's lease was renewed, 0 on others; another server takes over at 7.",
            [((), self._store.lease_age_s)],
        )
        yield _gauge(
            "lab_runs",
            "Number of runs by state.",
            [((state.value,), counts.get(state, 0)) for state in RunState if counts is not None],
            ("state",),
        )
        yield _gauge(
            "lab_queue_length",
            "Number of runs waiting for a slot.",
            [((), self._supervisor.queue_length())],
        )
        yield _gauge(
            "lab_queue_limit",
            "Largest number of runs that may wait.",
            [((), self._supervisor.queue_limit)],
        )
        slots = self._supervisor.slots()
        busy = sum(bool(run_id) for _, run_id in slots)
        yield _gauge(
            "lab_slots",
            "Slots, each of which trains one run, by state.",
            [(("busy",), busy), (("free",), len(slots) - busy)],
            ("state",),
        )
        yield _gauge(
            "lab_pool_slots",
            "Slots of agents, by pool and state.",
            [
                ((pool, state), sum(s.pool == pool and bool(run) == is_busy for s, run in slots))
                for pool in sorted({slot.pool for slot, _ in slots} - {""})
                for state, is_busy in (("busy", True), ("free", False))
            ],
            ("pool", "state"),
        )
        disk = shutil.disk_usage(self._home)
        yield _gauge(
            "lab_home_size_bytes", "Size of the file system of LAB_HOME.", [((), disk.total)]
        )
        yield _gauge(
            "lab_home_free_bytes", "Free space on the file system of LAB_HOME.", [((), disk.free)]
        )

    def _runs(self, runs: list[Run]) -> Iterator[Metric]:
        def each(name: str, text: str, value: Callable[[Run], float]) -> Metric:
            return _gauge(name, text, [(_labels(run), value(run)) for run in runs], _RUN)

        yield each("lab_run_step", "Current global step of the run.", lambda r: r.step)
        yield each(
            "lab_run_steps",
            "Step at which the run ends, 0 if unknown.",
            lambda r: r.total_steps,
        )
        yield each(
            "lab_run_progress_ratio", "Fraction of the run's steps that are done.", _progress
        )
        yield each(
            "lab_run_steps_per_second",
            "Training speed over the last seconds.",
            lambda r: r.steps_per_second,
        )
        yield each("lab_run_attempt", "Number of the run's current attempt.", lambda r: r.attempt)
        yield each(
            "lab_run_start_time_seconds",
            "Unix time at which the run started to train.",
            lambda r: r.start_time_ns / 1e9,
        )
        yield each(
            "lab_event_lag_seconds",
            "Age of the oldest event that the trainer wrote and the store does not have yet.",
            lambda r: self._supervisor.lag_s(r.id),
        )
        yield _gauge(
            "lab_run_metric",
            "Last value of each metric of the run.",
            [((*_labels(run), name), value) for run in runs for name, value in _metrics(run)],
            (*_RUN, "metric"),
        )
        yield from self._usage(runs)

    def _usage(self, runs: list[Run]) -> Iterator[Metric]:
        cpu = CounterMetricFamily(
            "lab_run_cpu_seconds", "CPU time of the run's processes.", labels=_RUN
        )
        memory = GaugeMetricFamily(
            "lab_run_memory_bytes", "Resident memory of the run's processes.", labels=_RUN
        )
        for run in runs:
            usage = self.usages.get(run.process) if run.process else None
            if usage:
                cpu.add_metric(_labels(run), usage.cpu_seconds)
                memory.add_metric(_labels(run), usage.memory_bytes)
        yield cpu
        yield memory


def _labels(run: Run) -> tuple[str, str]:
    return run.experiment, run.id


def _metrics(run: Run) -> Iterable[tuple[str, float]]:
    # what it uses of the machine has gauges of its own
    is_tracked = matcher(())
    tracked = [item for item in run.metrics.items() if is_tracked(item[0])]
    return sorted(tracked)[:MAX_METRICS_OF_A_RUN]


def _progress(run: Run) -> float:
    return min(run.step / run.total_steps, 1.0) if run.total_steps > 0 else math.nan


def _gauge(
    name: str,
    text: str,
    samples: Iterable[tuple[tuple[str, ...], float]],
    labels: tuple[str, ...] = (),
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family
