"""Who may call, and which RPC needs which role."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Role(enum.IntEnum):
    """What a caller may do; of the last three each includes the ones before it."""

    JOIN = -1
    """Become an agent, once."""
    AGENT = 0
    """Run trainers, and ship what is of its own attempts."""
    VIEWER = 1
    """See everything."""
    OPERATOR = 2
    """Create runs, and change one's own."""
    ADMIN = 3
    """Change every run."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls; without tokens every caller is an admin without a name."""

    name: str
    role: Role


ANYBODY = Principal("", Role.ADMIN)

_SERVICE = "/lab_rpc.v1.TrainingService/"
_SEARCH_SERVICE = "/lab_rpc.v1.SearchService/"
_RPCS = {
    Role.VIEWER: (
        "GetServerInfo",
        "OpenDashboard",
        "ListExperiments",
        "GetExperiment",
        "PlanRun",
        "GetRun",
        "ListRuns",
        "WatchRun",
        "WatchMetrics",
        "QueryMetrics",
        "QueryMedia",
        "ListArtifacts",
        "DownloadArtifact",
    ),
    # of existing runs only the caller's own, but for an admin
    Role.OPERATOR: (
        "CreateRun",
        "StartRun",
        "StopRun",
        "UpdateRun",
        "DeleteRun",
        "UploadCode",
        "SaveCheckpoint",
    ),
}

_SEARCH_RPCS = {
    Role.VIEWER: ("GetSearch", "ListSearches", "ListTrials", "WatchSearch"),
    # of existing searches only the caller's own, but for an admin
    Role.OPERATOR: (
        "CreateSearch",
        "UpdateSearch",
        "StopSearch",
        "EnqueueTrials",
        "DeleteSearch",
    ),
}

ROLES: Mapping[str, Role | None] = {
    **{_SERVICE + name: role for role, names in _RPCS.items() for name in names},
    **{_SEARCH_SERVICE + name: role for role, names in _SEARCH_RPCS.items() for name in names},
    # AgentService asks for its own credentials, also where the server needs no tokens.
    **{
        f"/lab_rpc.v1.AgentService/{name}": None
        for name in (
            *("Join", "Attach", "AppendEvents", "FetchFiles", "FetchUpload"),
            *("CompareFiles", "UploadChunks", "CommitFiles"),
        )
    },
    # servers prove to each other who they are by the secret of their store
    **{
        f"/lab_rpc.v1.PeerService/{name}": None
        for name in ("ListRunFiles", "FetchRunFiles", "DropRunFiles", "FetchCode")
    },
    # Load balancers and probes ask without a token.
    "/grpc.health.v1.Health/Check": None,
    "/grpc.health.v1.Health/List": None,
    "/grpc.health.v1.Health/Watch": None,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Role.VIEWER,
}
"""The minimum role for each method; None needs no token. A method that is not listed is refused."""
