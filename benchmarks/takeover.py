"""How soon another server leads when the leader dies or freezes, and how long a watcher waits.

    python benchmarks/takeover.py [--rounds N]

Two servers on one PostgreSQL and one home, a run that measures 50 times a second, and a watcher that knows both
addresses and follows the server that is to die. The leader is killed (SIGKILL) and frozen (SIGSTOP) in turns, and
started again afterwards. The watcher must get every event once, in order, all of one attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from live_server import LiveServer
from local_postgres import MISSING, start_postgres
from table import Row, at_most, markdown

from lab_client import Client
from lab_client.events import Event

EXPERIMENT = Path(__file__).with_name("watched_experiment.py")
FAULTS = {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}
TAKEOVER_S = 10.0
SILENCE_S = {
    "killed": 10.0,
    "frozen": 60.0,
}  # a connection to a frozen server looks alive: idle_timeout_s


class Watcher:
    """Reads a run's events in a thread, and notes when each came."""

    def __init__(self, addresses: str, run_id: str) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        self._thread = threading.Thread(target=self._watch, args=(addresses, run_id))
        self._thread.start()

    def _watch(self, addresses: str, run_id: str) -> None:
        with Client(addresses) as client:
            for event in client.run(run_id).events():
                self.events.append(event)
                self.times.append(time.monotonic())

    def wait_for_event(self) -> None:
        """Wait until one more event comes."""
        num = len(self.times)
        while len(self.times) == num and self._thread.is_alive():
            time.sleep(0.05)

    def longest_silence_s(self, since: float) -> float:
        """Return the longest time between two events since then."""
        times = [each for each in self.times if each >= since]
        return max(after - before for before, after in itertools.pairwise([since, *times]))

    def check(self) -> int:
        """Return the number of events; exits if one is missing, twice, or of another attempt."""
        self._thread.join(60)
        seqs = [event.seq for event in self.events]
        if seqs != list(range(1, len(seqs) + 1)):
            sys.exit(
                f"the watcher saw {len(seqs)} events, {len(set(seqs))} different, up to {seqs[-1]}"
            )
        if {event.attempt for event in self.events} - {0} != {1}:
            sys.exit("the training was begun again")
        return len(seqs)


def leads(server: LiveServer) -> bool:
    """Return whether a server says that it leads."""
    url = f"http://{server.http_address}/metrics"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return b"\nlab_server_leads 1.0" in answer.read()
    return False


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds until another server led and the watcher's longest silence, by the fault."""
    postgres = start_postgres()
    if postgres is None:
        raise SystemExit(MISSING)
    found: dict[str, list[tuple[float, float]]] = {fault: [] for fault in FAULTS}
    with contextlib.ExitStack() as stack:
        stack.callback(postgres.remove)
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-takeover-")))
        flags = ["--slots", "cpu:1", "--experiments", str(EXPERIMENT), "--on-shutdown", "leave"]
        flags += ["--store", postgres.new_url()]
        leader, follower = (stack.enter_context(LiveServer(home, *flags)) for _ in range(2))
        client = stack.enter_context(Client(f"{leader.address},{follower.address}", timeout_s=60))
        client.wait_ready()
        run = client.create("watched_experiment", {"printed_kb": 0}).start()
        watcher = Watcher(f"{leader.address},{follower.address}", run.id)
        for fault in list(FAULTS) * rounds:
            time.sleep(2)
            assert leader.process is not None
            begin = time.monotonic()
            leader.process.send_signal(FAULTS[fault])
            while not leads(follower):
                time.sleep(0.05)
            took_s = time.monotonic() - begin
            watcher.wait_for_event()
            found[fault].append((took_s, watcher.longest_silence_s(begin)))
            print(
                f"{fault}: led after %.1f s, silent for %.1f s" % found[fault][-1], file=sys.stderr
            )
            leader.process.send_signal(signal.SIGCONT)
            leader.kill()
            leader.start()
            leader, follower = follower, leader
        run.stop()
        print(f"{watcher.check():,} events, each once and in order", file=sys.stderr)
    return found


def rows(rounds: int = 3) -> list[Row]:
    """Measure the takeover and what a watcher notices of it."""
    found: list[Row] = []
    for fault, pairs in measure(rounds).items():
        takeovers, silences = zip(*pairs, strict=True)
        which = f"leader {fault}, longest of {rounds}"
        found += [
            at_most(f"until another server leads, {which}", max(takeovers), TAKEOVER_S, "s"),
            at_most(f"silence of a watcher, {which}", max(silences), SILENCE_S[fault], "s"),
        ]
    return found


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each fault")
    print(markdown(rows(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()
