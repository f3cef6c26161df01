"""One long run of small runs under random SIGKILLs of the server, of trainers and the forkserver.

    python benchmarks/chaos.py [--kills 50] [--seed 0] [--slots 2] [--agents 2] [--engine ray] [--home DIR]
                               [--store postgresql]

With a store on PostgreSQL, two servers share it, and servers are frozen, PostgreSQL crashes and comes back, its
connections are ended, and the network before it is cut, slow, or loses everything.

With agents, the server has no slots of its own, and on PostgreSQL the two servers have nothing but the store in common. Agents are killed, stopped, frozen, lost with their trainers, or with
all they have on disk, and the network between them and the server fails as above.

With --engine ray, a Ray cluster of two nodes on this machine starts up to so many agents, for a pool. Its nodes are killed,
with all that runs on them or not, and come back; so does its head, which may have forgotten all.

Some killed trainers' spools are cut, and some of their checkpoints damaged. Every run is watched
through the SDK from its start, from some later time, and by a watcher that cuts itself off again and
again. At the end every watcher's log, the store, sqlite.db, the last checkpoint and the final weights are compared
with those of a twin with the same configs that nobody disturbed. Two logs tell whether a slot was ever given twice:
the store notes each grant, and each trainer what it finds taken when it begins. Prints the faults survived, the events
checked, and how many were lost or doubled; exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import chaos_agents
import live_ray
from chaos_agents import Fleet
from chaos_judge import Report, left_over, stored_logs, twins
from chaos_party import Party
from chaos_ray import POOL, RayPool
from chaos_runs import EXPERIMENT, Runs
from chaos_servers import Servers
from chaos_store import PostgresStore, SqliteStore
from chaos_trainers import Trainers
from launches import granted_twice, trained_twice
from live_server import LiveServer
from local_postgres import MISSING, Postgres, start_postgres

RAYS_SLOWNESS = 3
"""It takes so much longer until there is something new to strike."""


class Chaos:
    """Keeps runs going on a server, and lets its parts fail."""

    def __init__(self, home: Path, given: argparse.Namespace, postgres: Postgres | None) -> None:
        self.rng = random.Random(given.seed)
        self.faults: Counter[str] = Counter()
        self.launches = home.with_name("launches")
        self.launches.mkdir(parents=True)
        os.environ["CHAOS_LAUNCHES"] = str(self.launches)
        os.environ["CHAOS_SLOTS"] = "1" if given.agents else str(given.slots)
        self.store = (
            SqliteStore(home) if postgres is None else PostgresStore(home, postgres, self.rng)
        )
        # trainings of agents need no common home
        homes = [home, home / "second" if given.agents else home]
        self.homes = homes[: 1 if postgres is None else 2]
        experiments = ("--experiments", str(EXPERIMENT))
        arguments = [
            *("--slots", "none" if given.agents else f"cpu:{given.slots}", *experiments),
            *("--heartbeat-s", "1", "--grace-s", "10", *self.store.arguments),
            *("--agent-lease-s", str(chaos_agents.LEASE_S)),
        ]
        pool_folder = home / "ray"
        if given.engine:
            arguments += ["--config", str(pool_folder / "lab.toml")]
        servers = [LiveServer(each, *arguments) for each in self.homes]
        addresses = [server.address for server in servers]
        self.pool: RayPool | None = None
        agents: list[Party] = []
        if given.engine:
            environment = {"LAB_DATA_PATH": str(home / "data")}
            self.pool = RayPool(
                pool_folder, given.agents, addresses, experiments, environment, self.rng
            )
            agents.append(self.pool)
            self.trainers = Trainers(self.pool.homes, self.rng)
        elif given.agents:
            fleet = Fleet(home / "agents", given.agents, addresses, experiments, self.rng)
            agents.append(fleet)
            self.trainers = Trainers(lambda: fleet.homes, self.rng)
        else:
            self.trainers = Trainers(lambda: [home], self.rng)
        self.parties: list[Party] = [
            Servers(servers, self.rng, lambda: self.trainers.strike("trainer")),
            self.store,
            *agents,
            self.trainers,
        ]
        self.runs = Runs(
            ",".join(addresses),
            POOL if given.engine else "",
            (given.agents or given.slots) + 2,
            self.rng,
            self.revive,
        )

    def start(self) -> None:
        """Start all parts, each of which needs those before it."""
        for party in self.parties:
            party.start()

    def stop(self) -> None:
        """Stop all parts."""
        for party in reversed(self.parties):
            party.stop()

    def revive(self) -> None:
        """Start again what has ended by itself."""
        for party in self.parties:
            party.revive()

    def run(self, num_faults: int) -> None:
        """Let so many things fail, then let what has begun come to its end."""
        faults = [(party, what) for party in self.parties for what in party.strikes]
        weights = [party.strikes[what] for party, what in faults]
        while self.faults.total() < num_faults:
            self.runs.feed()
            time.sleep(self.rng.uniform(0.2, 4.0 if self.pool is None else 4.0 * RAYS_SLOWNESS))
            ((party, what),) = self.rng.choices(faults, weights)
            if party.strike(what):
                self.faults[what] += 1
                if self.faults.total() % 10 == 0:
                    num_ended = len(self.runs.trials) - len(self.runs.open())
                    print(f"{self.faults.total()} faults, {num_ended} runs ended", flush=True)
        self.runs.finish()


def main() -> int:
    """Run, compare, report."""
    given = _arguments()
    base = given.home or Path(tempfile.mkdtemp(prefix="lab-chaos-"))
    home = base / "disturbed"
    start = time.monotonic()
    expected = twins(base / "twins")
    postgres = start_postgres() if given.store == "postgresql" else None
    if given.store == "postgresql" and postgres is None:
        raise SystemExit(f"--store postgresql {MISSING}")
    chaos = Chaos(home, given, postgres)
    trials = chaos.runs.trials
    report = Report()
    try:
        chaos.start()
        chaos.run(given.kills)
        fresh = {t.run.id: list(t.run.events()) for t in trials if not t.is_stuck}
    finally:
        chaos.stop()
    logs = stored_logs(chaos.store.url, [trial.run.id for trial in trials])
    for trial in trials:
        run_id = trial.run.id
        report.trial(trial, chaos.homes, expected[trial.seed], logs[run_id], fresh.get(run_id, []))
    grants, leases = chaos.store.grants(), chaos.store.leases()
    launched, taken = trained_twice(chaos.launches / "log")
    twice = [*granted_twice(grants), *taken]
    report.problems += twice
    report.check(all(lease == (1,) for lease in leases), f"two servers led at once: {leases}")
    report.problems += chaos.pool.problems if chaos.pool else []
    if postgres is not None:
        postgres.remove()
    remaining = left_over(home)
    report.check(not remaining, f"processes are left: {remaining}")
    counts = report.counts
    print(
        f"faults survived: {chaos.faults.total()} ({_in_words(chaos.faults)}), seed {given.seed},"
        f" {time.monotonic() - start:.0f} s\n"
        f"beside them: {_in_words(chaos.trainers.damages)}\n"
        f"runs: {len(trials)} in {counts['attempts']} attempts, {counts['watchers']} watchers\n"
        f"events checked: {counts['events checked']}, lost: {counts['lost']}, doubled: {counts['doubled']}\n"
        f"points compared with the twins: {counts['points checked']}\n"
        f"trainers: {launched['trainers launched']}; slots given {sum(bool(slot) for *_, slot in grants)} times;"
        f" {len(twice)} given twice"
    )
    if leases:
        print(f"servers that began to lead: {len(leases)}, never two at once")
    if chaos.pool is not None:
        print(f"jobs of agents at once: {chaos.pool.most_jobs} at most, of {given.agents}")
    return _verdict(report.problems, base, is_temporary=given.home is None)


def _verdict(problems: list[str], base: Path, *, is_temporary: bool) -> int:
    for problem in problems[:20]:
        print("PROBLEM:", problem)
    if len(problems) > 20:
        print(f"and {len(problems) - 20} more")
    if problems:
        print(f"everything is kept in {base}")
        return 1
    if is_temporary:
        shutil.rmtree(base)
    print("all as undisturbed")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument(
        "--agents", type=int, default=0, help="instead of slots of the server's own"
    )
    parser.add_argument("--engine", choices=("ray",), help="who starts the agents")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument(
        "--home", type=Path, help="where to keep everything; a temporary folder if not given"
    )
    given = parser.parse_args()
    if given.engine and not live_ray.is_installed():
        parser.error(f"--engine ray {live_ray.MISSING}")
    if given.engine:
        given.agents = given.agents or 3
    return given


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
