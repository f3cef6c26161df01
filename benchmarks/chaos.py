"""One long run of small runs under random SIGKILLs of the server, of trainers and the forkserver.

    python benchmarks/chaos.py [--kills 50] [--seed 0] [--slots 2] [--agents 2] [--home DIR] [--store postgresql]

With a store on PostgreSQL, two servers share it, and servers are frozen, PostgreSQL crashes and comes back, its
connections are ended, and the network before it is cut, slow, or loses everything.

With agents, the server has no slots of its own, and on PostgreSQL the two servers have nothing but the store in common. Agents are killed, stopped, frozen, lost with their trainers, or with
all they have on disk, and the network between them and the server fails as above.

Some killed trainers' spools are cut, and some of their checkpoints damaged. Every run is watched
through the SDK from its start, from some later time, and by a watcher that cuts itself off again and
again. At the end every watcher's log, the store, sqlite.db, the last checkpoint and the final weights are compared
with those of a twin with the same configs that nobody disturbed. Two logs tell whether a slot was ever given twice:
the store notes each grant, and each trainer what it finds taken when it begins. Prints the kills survived, the events checked, and
how many were lost or doubled; exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import chaos_agents
from chaos_agents import Fleet
from launches import (
    GRANTS,
    GRANTS_IN_POSTGRESQL,
    GRANTS_IN_SQLITE,
    granted_twice,
    trained_twice,
)
from live_server import LiveServer
from local_postgres import MISSING, SOCKET, Postgres, start_postgres
from unreliable import Network

from lab_client import Client, Run, RunOptions
from lab_client.errors import LabError
from lab_client.events import Event, Metrics, Truncate

EXPERIMENT = Path(__file__).with_name("chaos_experiment.py")
NUM_SEEDS = 4
PATIENCE_S = 600.0
SYSTEM = "system."
"""Begins the names of what is measured of the machine, which differs from run to run."""
STRIKES = {
    "trainer": 6,
    "trainer, torn spool": 2,
    "trainer, damaged checkpoint": 2,
    "server": 3,
    "trainer and server": 1,
    "server, twice": 1,
    "forkserver": 1,
}
"""What is struck, and how often of all."""

STRIKES_ON_POSTGRESQL = {
    "frozen server": 2,
    "PostgreSQL": 2,
    "connections": 2,
    "cut network": 2,
    "slow network": 1,
    "lossy network": 1,
}
"""What is struck besides where the store is on PostgreSQL."""

LEASE_LOG = """
CREATE TABLE {schema}.lease_log (at timestamptz, session text, num_servers int);
CREATE FUNCTION {schema}.note_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO {schema}.lease_log
    SELECT clock_timestamp(), NEW.session, count(*) FROM {schema}.servers;
  RETURN NULL;
END $$;
CREATE TRIGGER note_lease AFTER INSERT ON {schema}.servers
  FOR EACH ROW EXECUTE FUNCTION {schema}.note_lease();
"""
"""Notes each server that begins to lead, with how many lead then."""

History = dict[str, dict[int, float]]


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


@dataclass
class Result:
    """What is left of a run in the end, all of which its twin must have too."""

    history: History
    database: History
    weights: bytes
    checkpoint: dict[str, str]
    files: set[str]


class Chaos:
    """Keeps runs going on a server, and kills."""

    def __init__(
        self,
        home: Path,
        seed: int,
        num_slots: int,
        num_agents: int = 0,
        postgres: Postgres | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.num_slots = num_agents or num_slots
        self.home = home
        self.postgres = postgres
        self.strikes = dict(STRIKES)
        experiments = ("--experiments", str(EXPERIMENT))
        arguments = [
            *("--slots", "none" if num_agents else f"cpu:{num_slots}", *experiments),
            *("--heartbeat-s", "1", "--grace-s", "10"),
            *("--agent-lease-s", str(chaos_agents.LEASE_S)),
        ]
        self.launches = home.with_name("launches")
        self.launches.mkdir(parents=True)
        os.environ["CHAOS_LAUNCHES"] = str(self.launches)
        os.environ["CHAOS_SLOTS"] = "1" if num_agents else str(num_slots)
        self.store_url = f"sqlite:///{home / 'lab.db'}"
        if postgres is not None:
            self.strikes |= STRIKES_ON_POSTGRESQL
            home.mkdir(parents=True)
            self.store_url = postgres.new_url()
            self.network = Network(home / SOCKET, postgres.folder / SOCKET)
            folder, through = quote(str(postgres.folder)), quote(str(home))
            arguments += ["--store", self.store_url.replace(folder, through)]
        # trainings of agents need no common home
        self.homes = [home, home / "second" if num_agents else home][: 2 if postgres else 1]
        self.servers = [LiveServer(each, *arguments) for each in self.homes]
        addresses = [server.address for server in self.servers]
        self.fleet = Fleet(home / "agents", num_agents, addresses, experiments, self.rng)
        if num_agents:
            self.strikes |= chaos_agents.STRIKES
        self.kills: Counter[str] = Counter()
        self.damages: Counter[str] = Counter()
        self.trials: list[Trial] = []
        self.address = ",".join(addresses)
        self.client = patient_client(self.address)

    def open_trials(self) -> list[Trial]:
        """Return the runs whose first watcher still watches."""
        return [t for t in self.trials if t.watchers[0].thread and t.watchers[0].thread.is_alive()]

    def feed(self) -> None:
        """Keep the slots full and some runs waiting; let somebody join a run late."""
        self.revive()
        while len(self.open_trials()) < self.num_slots + 2:
            seed = self.rng.randrange(NUM_SEEDS)
            trial = Trial(seed, create(self.client, seed).start())
            self.trials.append(trial)
            watch(trial, "from the start", self.watch_whole)
            watch(trial, "cut off", self.watch_cut)
        trial = self.rng.choice(self.open_trials())
        if len(trial.watchers) < 4:
            watch(trial, "late", self.watch_whole)

    def revive(self) -> None:
        """Start again what has ended by itself: a server that was replaced while it was frozen, say."""
        for server in self.servers:
            if server.process is not None and server.process.poll() is not None:
                server.launch()
        self.fleet.revive()

    def watch_whole(self, run_id: str) -> Iterator[Event]:
        """Watch in one go."""
        with patient_client(self.address) as client:
            yield from client.run(run_id).events()

    def watch_cut(self, run_id: str) -> Iterator[Event]:
        """Watch some events, go away, and attach again after the last one seen."""
        rng = random.Random(run_id)
        last_seq, is_over = 0, False
        while not is_over:
            left = rng.randrange(1, 30)
            with patient_client(self.address) as client:
                is_over = True
                for event in client.run(run_id).events(after_seq=last_seq):
                    yield event
                    last_seq, left = event.seq, left - 1
                    if not left and not is_terminal(event):
                        is_over = False
                        break

    def strike(self) -> None:
        """Kill something, at random; a killed server comes back."""
        (what,) = self.rng.choices(list(self.strikes), list(self.strikes.values()))
        if what in STRIKES_ON_POSTGRESQL:
            self.strike_store(what)
            return
        if what in chaos_agents.STRIKES:
            self.kills[what] += 1
            self.fleet.strike(what, lambda home: [pid for pid, _ in self.trainers(home)])
            return
        server = self.rng.choice(self.servers)
        if "trainer" in what:
            victim = self.a_trainer()
            if victim is None:
                return
            pid, folder = victim
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.kills["trainers"] += 1
            if "torn spool" in what:
                self.tear_spool(folder)
            if "damaged checkpoint" in what:
                self.damage_checkpoint(folder)
        if "forkserver" in what:
            self.kill_forkserver(server)
        if "server" in what and "forkserver" not in what:
            server.kill()
            self.kills["servers"] += 1
            time.sleep(self.rng.choice([0.0, self.rng.uniform(0.0, 2.0)]))
            server.launch()
        if "twice" in what:
            time.sleep(self.rng.uniform(0.05, 1.5))
            server.kill()
            self.kills["servers while starting"] += 1
            server.launch()

    def strike_store(self, what: str) -> None:
        """Strike the store, the way to it, or who leads."""
        assert self.postgres is not None
        self.kills[what] += 1
        some_s = self.rng.uniform(0.1, 6.0)
        match what:
            case "frozen server":
                process = self.rng.choice(self.servers).process
                assert process is not None
                process.send_signal(signal.SIGSTOP)
                time.sleep(2 * some_s)  # sometimes longer than a lease
                process.send_signal(signal.SIGCONT)
            case "PostgreSQL":
                self.postgres.stop(crash=self.rng.random() < 0.5)
                time.sleep(some_s)
                self.postgres.start()
            case "connections":
                self.postgres.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'lab-server%'"
                )
            case "cut network":
                self.network.cut()
            case "slow network":
                self.network.delay_s = 0.1
            case "lossy network":
                self.network.drop()
        if "network" in what:
            time.sleep(some_s)
            self.network.mend()

    def make_logs(self) -> None:
        """Have the store note who leads, and which slots runs are given."""
        if self.postgres is not None:
            self.postgres.execute((LEASE_LOG + GRANTS_IN_POSTGRESQL).format(schema=self.schema))
            return
        with contextlib.closing(sqlite3.connect(self.home / "lab.db", timeout=60)) as db:
            db.executescript(GRANTS_IN_SQLITE)

    def grants(self) -> list[tuple[Any, ...]]:
        """Return which run was given which slot, or none, in that order."""
        if self.postgres is not None:
            return self.postgres.execute(GRANTS.format(schema=f"{self.schema}."))
        with contextlib.closing(sqlite3.connect(self.home / "lab.db")) as db:
            return db.execute(GRANTS.format(schema="")).fetchall()

    def leases(self) -> list[tuple[object, ...]]:
        """Return, for each server that began to lead, how many led then."""
        if self.postgres is None:
            return []
        return self.postgres.execute(f"SELECT num_servers FROM {self.schema}.lease_log")

    @property
    def schema(self) -> str:
        """Of the store, on PostgreSQL."""
        return self.store_url.rpartition("%3D")[2]

    def a_trainer(self) -> tuple[int, Path] | None:
        """Return the pid and the run's folder of some trainer that lives."""
        homes = self.fleet.homes or [self.home]
        living = [trainer for home in homes for trainer in self.trainers(home)]
        return self.rng.choice(living) if living else None

    def trainers(self, home: Path) -> list[tuple[int, Path]]:
        """Return the pid and the run's folder of each trainer that lives in a home."""
        living = []
        for path in sorted(home.glob("runs/*/*/spool/*.pid")):
            with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
                told = json.loads(path.read_text())
                fields = Path(f"/proc/{told['pid']}/stat").read_text().rpartition(")")[2].split()
                if int(fields[19]) == told["start_ticks"] and fields[0] not in "ZX":
                    living.append((int(told["pid"]), path.parent.parent))
        return living

    def kill_forkserver(self, server: LiveServer) -> None:
        """Kill the process that trainers are forked from."""
        assert server.process is not None
        pid = server.process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if b"lab_server.trainer.forkserver" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    self.kills["forkservers"] += 1

    def tear_spool(self, folder: Path) -> None:
        """Cut some bytes off the newest spool, as a power loss does."""
        spools = [path for path in folder.glob("spool/*") if path.name.isdigit()]
        with contextlib.suppress(OSError, ValueError):
            newest = max(spools, key=lambda path: int(path.name))
            size = newest.stat().st_size
            os.truncate(newest, max(0, size - self.rng.randrange(1, 400)))
            self.damages["spools torn"] += 1

    def damage_checkpoint(self, folder: Path) -> None:
        """Flip a bit in the newest checkpoint."""
        checkpoints = [path for path in folder.glob("checkpoints/*") if path.name.isdigit()]
        with contextlib.suppress(OSError, ValueError):
            newest = max(checkpoints, key=lambda path: int(path.name))
            file = self.rng.choice(sorted(newest.glob("*.pt")))
            data = bytearray(file.read_bytes())
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            file.write_bytes(data)
            self.damages["checkpoints damaged"] += 1

    def run(self, num_kills: int) -> None:
        """Kill so often, then let what has begun come to its end."""
        for server in self.servers:
            server.start()
        self.make_logs()
        self.fleet.start()
        while self.kills.total() < num_kills:
            self.feed()
            time.sleep(self.rng.uniform(0.2, 4.0))
            before = self.kills.total()
            self.strike()
            if self.kills.total() // 10 > before // 10:
                ended = len(self.trials) - len(self.open_trials())
                print(f"{self.kills.total()} kills, {ended} runs ended", flush=True)
        deadline = time.monotonic() + PATIENCE_S
        for trial in self.trials:
            for watcher in trial.watchers:
                assert watcher.thread is not None
                while watcher.thread.is_alive() and time.monotonic() < deadline:
                    self.revive()
                    watcher.thread.join(1.0)
                if watcher.thread.is_alive():
                    watcher.error = watcher.error or f"still watching after {PATIENCE_S:g} s"


def patient_client(address: str) -> Client:
    return Client(
        address, timeout_s=PATIENCE_S, retry_timeout_s=PATIENCE_S, reconnect_timeout_s=PATIENCE_S
    )


def create(client: Client, seed: int) -> Run:
    return client.create("trial", {"seed": seed}, options=RunOptions(max_retries=1000))


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


def history_of(events: list[Event]) -> History:
    """Fold a log: what counts of each metric, by step."""
    history: History = {}
    for event in events:
        match event.body:
            case Truncate(after_step=after):
                for points in history.values():
                    for step in [step for step in points if step > after]:
                        del points[step]
            case Metrics(steps=steps, columns=columns):
                for name, column in columns.items():
                    for row, value in zip(
                        column.rows or range(len(steps)), column.values, strict=True
                    ):
                        points = history.setdefault(name, {})
                        if steps[row] in points:
                            raise SystemExit(f"{name} has step {steps[row]} twice, seq {event.seq}")
                        points[steps[row]] = value
    return {name: points for name, points in history.items() if not name.startswith(SYSTEM)}


def result_of(run: Run, homes: list[Path], events: list[Event]) -> Result:
    """Return what a run left, in its log and in its folder, which the server has that saw its end."""
    folders = [folder for home in homes for folder in home.glob(f"runs/*/{run.id}")]
    folder = max(folders, key=lambda folder: len(list(folder.rglob("*"))))
    with contextlib.closing(sqlite3.connect(folder / "sqlite.db")) as db:
        database: History = {}
        for name, step, value in db.execute("SELECT indicator, step, value FROM scalars"):
            if name.startswith(SYSTEM):
                continue
            database.setdefault(name, {})[step] = value
    last = max(folder.glob("checkpoints/*"), key=lambda path: int(path.name))
    hashes = json.loads((last / "manifest.json").read_text())["files"]
    return Result(
        history_of(events),
        database,
        (folder / "numpy" / "weights.npy").read_bytes(),
        {name: hashes[name] for name in ("model.pt", "optimizer.pt")},
        {path.name for path in folder.iterdir()} - {"spool", "control", "log.levels"},
    )


def twins(folder: Path) -> dict[int, Result]:
    """Run each config once, undisturbed, on a server of its own."""
    server = LiveServer(folder, "--slots", "cpu:2", "--experiments", str(EXPERIMENT))
    server.start()
    with patient_client(server.address) as client:
        runs = {seed: create(client, seed).start() for seed in range(NUM_SEEDS)}
        results = {seed: result_of(run, [folder], list(run.events())) for seed, run in runs.items()}
    server.stop()
    return results


def stored_logs(url: str, run_ids: list[str]) -> dict[str, list[Event]]:
    """Read the runs' logs from the store itself."""
    from lab_client.protocol import convert
    from lab_rpc.v1.event_pb2 import RunEvent
    from lab_server.store import SqlStore

    async def read() -> dict[str, list[Event]]:
        store = SqlStore(url)
        logs = {run_id: await store.events(run_id, 0, 1 << 40) for run_id in run_ids}
        await store.close()
        return {
            run_id: [convert.event(RunEvent.FromString(event.payload)) for event in log]
            for run_id, log in logs.items()
        }

    return asyncio.run(read())


class Report:
    """Compares, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def check(self, is_fine: bool, problem: str) -> None:
        if not is_fine:
            self.problems.append(problem)

    def trial(
        self, trial: Trial, homes: list[Path], twin: Result, stored: list[Event], fresh: list[Event]
    ) -> None:
        """Compare all that is known of a run."""
        run_id = trial.run.id
        seqs = [event.seq for event in stored]
        self.check(seqs == list(range(1, len(seqs) + 1)), f"{run_id}: the store's log has gaps")
        for watcher in [*trial.watchers, Watcher("afterwards", fresh)]:
            seen = Counter(event.seq for event in watcher.events)
            self.counts["events checked"] += len(watcher.events)
            self.counts["watchers"] += 1
            self.counts["lost"] += len(set(seqs) - set(seen))
            self.counts["doubled"] += sum(n - 1 for n in seen.values())
            name = f"{run_id}, watcher {watcher.how}"
            self.check(not watcher.error, f"{name}: {watcher.error}")
            self.check(watcher.events == stored, f"{name}: its log is not the store's")
        last = stored[-1].body
        state = getattr(last, "state", None)
        self.check(state == "COMPLETED", f"{run_id}: ended with {last}")
        self.counts["attempts"] += max(event.attempt for event in stored)
        if state != "COMPLETED":
            return
        result = result_of(trial.run, homes, stored)
        self.counts["points checked"] += sum(map(len, result.history.values()))
        self.check(result.history == twin.history, f"{run_id}: its metrics are not its twin's")
        self.check(result.database == twin.database, f"{run_id}: its sqlite.db is not its twin's")
        self.check(result.weights == twin.weights, f"{run_id}: its weights are not its twin's")
        is_same = result.checkpoint == twin.checkpoint
        self.check(is_same, f"{run_id}: its last checkpoint is not its twin's")
        self.check(result.files == twin.files, f"{run_id}: its files are {sorted(result.files)}")


def left_over(home: Path) -> list[str]:
    """Return the command lines of processes that still have to do with this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"LAB_DATA_PATH={home}/".encode() in path.read_bytes() and path.parent.name != str(
                os.getpid()
            ):
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def main() -> int:
    """Run, compare, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument(
        "--agents", type=int, default=0, help="instead of slots of the server's own"
    )
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--home", type=Path, help="where to keep everything; a temporary folder if not given"
    )
    arguments = parser.parse_args()
    base = arguments.home or Path(tempfile.mkdtemp(prefix="lab-chaos-"))
    home = base / "disturbed"
    start = time.monotonic()
    expected = twins(base / "twins")
    postgres = None
    if arguments.store == "postgresql":
        postgres = start_postgres()
        if postgres is None:
            parser.error(f"--store postgresql {MISSING}")
    chaos = Chaos(home, arguments.seed, arguments.slots, arguments.agents, postgres)
    report = Report()
    try:
        chaos.run(arguments.kills)
        fresh = {
            trial.run.id: list(trial.run.events()) for trial in chaos.trials if not is_stuck(trial)
        }
    finally:
        chaos.fleet.stop()
        for server in chaos.servers:
            server.stop()
    logs = stored_logs(chaos.store_url, [trial.run.id for trial in chaos.trials])
    for trial in chaos.trials:
        run_id = trial.run.id
        report.trial(trial, chaos.homes, expected[trial.seed], logs[run_id], fresh.get(run_id, []))
    grants, leases = chaos.grants(), chaos.leases()
    launched, taken = trained_twice(chaos.launches / "log")
    report.problems += [*granted_twice(grants), *taken]
    report.check(all(lease == (1,) for lease in leases), f"two servers led at once: {leases}")
    if postgres is not None:
        postgres.remove()
    remaining = left_over(home)
    report.check(not remaining, f"processes are left: {remaining}")
    kills = _in_words(chaos.kills)
    counts = report.counts
    print(
        f"kills survived: {chaos.kills.total()} ({kills}), seed {arguments.seed},"
        f" {time.monotonic() - start:.0f} s\n"
        f"beside them: {_in_words(chaos.damages)}\n"
        f"runs: {len(chaos.trials)} in {counts['attempts']} attempts, {counts['watchers']} watchers\n"
        f"events checked: {counts['events checked']}, lost: {counts['lost']}, doubled: {counts['doubled']}\n"
        f"points compared with the twins: {counts['points checked']}\n"
        f"trainers: {launched['trainers launched']}; slots given {sum(bool(slot) for *_, slot in grants)} times;"
        f" {len(granted_twice(grants)) + len(taken)} given twice"
        + (f"\nservers that began to lead: {len(leases)}, never two at once" if leases else "")
    )
    for problem in report.problems[:20]:
        print("PROBLEM:", problem)
    if len(report.problems) > 20:
        print(f"and {len(report.problems) - 20} more")
    if report.problems:
        print(f"everything is kept in {base}")
        return 1
    if arguments.home is None:
        shutil.rmtree(base)
    print("all as undisturbed")
    return 0


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


def is_stuck(trial: Trial) -> bool:
    return any(watcher.error for watcher in trial.watchers)


if __name__ == "__main__":
    sys.exit(main())
