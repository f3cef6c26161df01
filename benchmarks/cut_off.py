"""How a run fares whose agent is cut off from its server for a long time.

    python benchmarks/cut_off.py [--seconds 600]

Starts a server, an agent behind a network, and a run on it; cuts the network, mends it, and tells whether the run
went on meanwhile in one attempt, and whether the server's log has each of its steps once. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

from chaos_judge import history_of
from live_agent import LiveAgent
from live_server import LiveServer
from unreliable import Network

from lab_client import Client
from lab_client.events import Event, Metrics

EXPERIMENT = Path(__file__).with_name("chaos_experiment.py")
STEPS_IN_EPOCH = 19
STEP_S = 0.1
AROUND_S = 20.0


def main() -> int:
    """Cut, mend, compare, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    cut_s = parser.parse_args().seconds
    folder = Path(tempfile.mkdtemp(prefix="lab-cut-off-"))
    experiments = ("--experiments", str(EXPERIMENT))
    num_steps = STEPS_IN_EPOCH * (1 + int((cut_s + AROUND_S) / STEP_S / STEPS_IN_EPOCH))
    with LiveServer(folder / "server", "--slots", "none", *experiments) as server:
        network = Network("127.0.0.1:0", server.address)
        agent = LiveAgent(folder / "a1", network.address, *experiments)
        agent.start()
        with Client(server.address, timeout_s=60) as client:
            overrides = {"loop_count": num_steps, "step_s": STEP_S, "checkpoint_interval": 1000}
            run = client.create("trial", overrides).start()
            while run.refresh().step < AROUND_S / 4 / STEP_S:
                time.sleep(0.1)
            before = run.info.step
            network.cut()
            time.sleep(cut_s)
            reason = run.refresh().reason
            at_cut = run.info.step
            network.mend()
            mended = time.monotonic()
            while run.refresh().step < before + 0.9 * cut_s / STEP_S:
                time.sleep(0.1)
            arrived_s = time.monotonic() - mended
            events = list(run.events())
            attempt, state = run.refresh().attempt, run.info.state
        agent.stop()
    steps = sorted(history_of(events).get("train_loss", {}))
    is_whole = steps == list(range(1, num_steps + 1))
    print(
        f"cut off for {cut_s:.0f} s at step {before}; the server then knew step {at_cut}: {reason}\n"
        f"{arrived_s:.1f} s after the network was mended it had what came meanwhile\n"
        f"attempts: {attempt}, state: {state}\n"
        f"longest time between two batches of metrics, by the trainer's clock: {longest_pause_s(events):.1f} s\n"
        f"steps of {num_steps} in the log once: {'all' if is_whole else len(steps)}"
    )
    return 0 if is_whole and attempt == 1 and state == "COMPLETED" else 1


def longest_pause_s(events: list[Event]) -> float:
    """Return the longest time between two events with metrics that follow each other, in seconds."""
    times = [event.time.timestamp() for event in events if isinstance(event.body, Metrics)]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


if __name__ == "__main__":
    sys.exit(main())
