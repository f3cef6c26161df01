"""The small runs of benchmarks/chaos.py, and who watches them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab_client import Client, Run, RunOptions
from lab_client.errors import LabError
from lab_client.events import Event

EXPERIMENT = Path(__file__).with_name("chaos_experiment.py")
NUM_SEEDS = 4
PATIENCE_S = 600.0


@dataclass
class Watcher:
    """What one watcher of a run got."""

    how: str
    events: list[Event] = field(default_factory=list)
    error: str = ""
    thread: threading.Thread | None = None


@dataclass
class Trial:
    """One small run, and who watches it."""

    seed: int
    run: Run
    watchers: list[Watcher] = field(default_factory=list)

    @property
    def is_stuck(self) -> bool:
        """Whether a watcher has not come to the run's end."""
        return any(watcher.error for watcher in self.watchers)


class Runs:
    """Keeps runs going, and watched.

    Args:
        address: of the servers.
        pool: that the runs ask for.
        num: runs at once.
        revive: is called whenever some time has passed.
    """

    def __init__(
        self,
        address: str,
        pool: str,
        num: int,
        rng: random.Random,
        revive: Callable[[], None],
    ) -> None:
        self.trials: list[Trial] = []
        self._address = address
        self._pool = pool
        self._num = num
        self._rng = rng
        self._revive = revive
        self._client = patient_client(address)

    def open(self) -> list[Trial]:
        """Return the runs whose first watcher still watches."""
        return [t for t in self.trials if t.watchers[0].thread and t.watchers[0].thread.is_alive()]

    def feed(self) -> None:
        """Keep the slots full and some runs waiting; let somebody join a run late."""
        self._revive()
        while len(self.open()) < self._num:
            seed = self._rng.randrange(NUM_SEEDS)
            trial = Trial(seed, create(self._client, seed, self._pool).start())
            self.trials.append(trial)
            watch(trial, "from the start", self._watch_whole)
            watch(trial, "cut off", self._watch_cut)
        trial = self._rng.choice(self.open())
        if len(trial.watchers) < 4:
            watch(trial, "late", self._watch_whole)

    def finish(self) -> None:
        """Let what has begun come to its end."""
        deadline = time.monotonic() + PATIENCE_S
        for trial in self.trials:
            for watcher in trial.watchers:
                assert watcher.thread is not None
                while watcher.thread.is_alive() and time.monotonic() < deadline:
                    self._revive()
                    watcher.thread.join(1.0)
                if watcher.thread.is_alive():
                    reason = trial.run.refresh().reason
                    watcher.error = (
                        watcher.error or f"still watching after {PATIENCE_S:g} s: {reason}"
                    )

    def _watch_whole(self, run_id: str) -> Iterator[Event]:
        """Watch in one go."""
        with patient_client(self._address) as client:
            yield from client.run(run_id).events()

    def _watch_cut(self, run_id: str) -> Iterator[Event]:
        """Watch some events, go away, and attach again after the last one seen."""
        rng = random.Random(run_id)
        last_seq, is_over = 0, False
        while not is_over:
            left = rng.randrange(1, 30)
            with patient_client(self._address) as client:
                is_over = True
                for event in client.run(run_id).events(after_seq=last_seq):
                    yield event
                    last_seq, left = event.seq, left - 1
                    if not left and not is_terminal(event):
                        is_over = False
                        break


def patient_client(address: str) -> Client:
    return Client(
        address, timeout_s=PATIENCE_S, retry_timeout_s=PATIENCE_S, reconnect_timeout_s=PATIENCE_S
    )


def create(client: Client, seed: int, pool: str = "") -> Run:
    return client.create("trial", {"seed": seed}, options=RunOptions(max_retries=1000, pool=pool))


def watch(trial: Trial, how: str, events_of: Callable[[str], Iterator[Event]]) -> None:
    """Watch a run in a thread of its own."""
    watcher = Watcher(how)

    def work() -> None:
        try:
            watcher.events.extend(events_of(trial.run.id))
        except LabError as error:
            watcher.error = f"{type(error).__name__}: {error}"

    watcher.thread = threading.Thread(target=work, daemon=True)
    watcher.thread.start()
    trial.watchers.append(watcher)


def is_terminal(event: Event) -> bool:
    state = getattr(event.body, "state", None)
    return state is not None and state.value in ("COMPLETED", "STOPPED", "FAILED")
