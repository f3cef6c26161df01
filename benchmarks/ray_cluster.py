"""A Ray cluster on this machine, in a process of its own: it ends with its standard input.

    python benchmarks/ray_cluster.py DASHBOARD_PORT GCS_PORT TABLES NUM_NODES

The head keeps its tables in the folder TABLES, as RAY_gcs_storage_path says, too. Takes orders, a line each, and answers each with a line: how many nodes work, and whether it was done.

    mend             start what is missing: the head, and nodes that work
    kill head        it keeps its tables on disk; the nodes look for it
    forget           what a head has on disk, that does not run: its nodes are then strangers to the next one
    kill node        its agents and trainers are left to Ray, and to themselves
    kill machine     a node with all that runs on it
"""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CPUS_PER_NODE = 2


class RayCluster:
    """A head without CPUs of its own, and nodes that work."""

    def __init__(self, dashboard_port: int, gcs_port: int, tables: Path, num_nodes: int) -> None:
        # Ray has no types, or is not installed
        self._cluster: Any = importlib.import_module("ray.cluster_utils").Cluster()
        self._psutil: Any = importlib.import_module("psutil")
        self._tables = tables
        self._num_nodes = num_nodes
        self._known: list[Any] = []  # nodes of the head that is, or of one that remembers them
        self._head_arguments = {
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": dashboard_port,
            "gcs_server_port": gcs_port,
        }

    def obey(self, order: str) -> None:
        """Do what a line asks for."""
        cluster = self._cluster
        match order.split():
            case ["mend"]:
                self._mend()
            case ["kill", "head"]:
                cluster.remove_node(cluster.head_node, allow_graceful=False)
            case ["forget"]:
                shutil.rmtree(self._tables)
                self._tables.mkdir()
                self._known.clear()
            case ["kill", ("node" | "machine") as what]:
                self._kill_node(self._known.pop(0), is_all=what == "machine")
            case _:
                raise ValueError(f"unknown order: {order}")

    def _kill_node(self, node: Any, *, is_all: bool) -> None:
        (raylet,) = node.all_processes["raylet"]
        below = self._psutil.Process(raylet.process.pid).children(recursive=True) if is_all else []
        self._cluster.remove_node(node, allow_graceful=False)
        self._kill(below)

    def _mend(self) -> None:
        cluster = self._cluster
        for node in (cluster.head_node, *cluster.worker_nodes):
            if node is not None and not node.remaining_processes_alive():
                cluster.remove_node(node, allow_graceful=False)
        self._end_halves()
        if cluster.head_node is None:
            cluster.add_node(**self._head_arguments)
        self._known = [node for node in self._known if node in cluster.worker_nodes]
        while len(self._known) < self._num_nodes:
            self._known.append(cluster.add_node(num_cpus=CPUS_PER_NODE))

    def _end_halves(self) -> None:
        """Kill what is left of nodes that gave up their start: they keep the head's port, say."""
        whole = {
            each.process.pid
            for node in (self._cluster.head_node, *self._cluster.worker_nodes)
            if node is not None
            for processes in node.all_processes.values()
            for each in processes
        }
        for child in self._psutil.Process().children():
            if child.pid not in whole:
                self._kill([child, *child.children(recursive=True)])

    def _kill(self, processes: Iterable[Any]) -> None:
        for process in processes:
            with contextlib.suppress(self._psutil.NoSuchProcess):
                process.kill()

    def end(self) -> None:
        """Kill all that is left."""
        for node in (*self._cluster.worker_nodes, self._cluster.head_node):
            if node is not None:
                self._cluster.remove_node(node, allow_graceful=False)
        self._end_halves()


def main() -> None:
    """Obey until the input ends."""
    dashboard_port, gcs_port, tables, num_nodes = sys.argv[1:]
    answers, sys.stdout = sys.stdout, sys.stderr  # Ray writes there, too
    cluster = RayCluster(int(dashboard_port), int(gcs_port), Path(tables), int(num_nodes))
    try:
        for order in sys.stdin:
            try:
                cluster.obey(order)
                said = "done"
            except Exception as error:
                said = f"{order.strip()} failed: {error!r}"
            print(said, file=answers, flush=True)
    finally:
        cluster.end()


if __name__ == "__main__":
    main()
