"""A Ray cluster of two nodes on this machine, in a process of its own: it ends with its standard input.

Prints the address of the dashboard. A line on its input kills the node that works, and puts another in its place; the
end of its input ends the cluster.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    # Ray has no types, or is not installed
    make: Any = importlib.import_module("ray.cluster_utils").Cluster
    cluster = make(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0},
    )
    node = cluster.add_node(num_cpus=2)
    print("dashboard", cluster.head_node.webui_url, flush=True)
    try:
        for _ in sys.stdin:
            cluster.remove_node(node, allow_graceful=False)
            node = cluster.add_node(num_cpus=2)
            print("replaced", flush=True)
    finally:
        cluster.shutdown()
        print("ended", flush=True)


if __name__ == "__main__":
    main()
