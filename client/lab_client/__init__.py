"""The client of a lab-server: a package of a few MB that starts, watches and compares trainings.

`from lab_client import experiment` mirrors lab's experiment module; `Client` and `AsyncClient` do
everything that the service can. Names are loaded when they are first used, so that importing this
package costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab_client import experiment as experiment
    from lab_client.aio.client import AsyncClient as AsyncClient
    from lab_client.aio.experiment import AsyncExperiment as AsyncExperiment
    from lab_client.aio.run import AsyncRun as AsyncRun
    from lab_client.aio.search import AsyncSearch as AsyncSearch
    from lab_client.configs import Plan as Plan
    from lab_client.errors import AlreadyExists as AlreadyExists
    from lab_client.errors import ConfigError as ConfigError
    from lab_client.errors import DeadlineExceeded as DeadlineExceeded
    from lab_client.errors import ExperimentNotFound as ExperimentNotFound
    from lab_client.errors import InvalidState as InvalidState
    from lab_client.errors import LabError as LabError
    from lab_client.errors import PermissionDenied as PermissionDenied
    from lab_client.errors import QueueFull as QueueFull
    from lab_client.errors import RunFailed as RunFailed
    from lab_client.errors import RunNotFound as RunNotFound
    from lab_client.errors import SearchFailed as SearchFailed
    from lab_client.errors import SearchNotFound as SearchNotFound
    from lab_client.errors import Unauthenticated as Unauthenticated
    from lab_client.errors import Unavailable as Unavailable
    from lab_client.events import Event as Event
    from lab_client.events import Point as Point
    from lab_client.history import History as History
    from lab_client.runs import RunInfo as RunInfo
    from lab_client.runs import RunOptions as RunOptions
    from lab_client.runs import RunState as RunState
    from lab_client.searches import Halving as Halving
    from lab_client.searches import MedianStopping as MedianStopping
    from lab_client.searches import SearchInfo as SearchInfo
    from lab_client.searches import SearchState as SearchState
    from lab_client.searches import Trial as Trial
    from lab_client.searches import TrialState as TrialState
    from lab_client.searches import anything as anything
    from lab_client.searches import choice as choice
    from lab_client.searches import int_range as int_range
    from lab_client.searches import log_uniform as log_uniform
    from lab_client.searches import uniform as uniform
    from lab_client.sync.client import Client as Client
    from lab_client.sync.experiment import Experiment as Experiment
    from lab_client.sync.run import Run as Run
    from lab_client.sync.search import Search as Search

_MODULES = {
    "AsyncClient": "aio.client",
    "AsyncExperiment": "aio.experiment",
    "AsyncRun": "aio.run",
    "AlreadyExists": "errors",
    "Client": "sync.client",
    "ConfigError": "errors",
    "DeadlineExceeded": "errors",
    "Event": "events",
    "Experiment": "sync.experiment",
    "ExperimentNotFound": "errors",
    "History": "history",
    "InvalidState": "errors",
    "LabError": "errors",
    "PermissionDenied": "errors",
    "Plan": "configs",
    "Point": "events",
    "QueueFull": "errors",
    "Run": "sync.run",
    "RunFailed": "errors",
    "RunInfo": "runs",
    "RunNotFound": "errors",
    "RunOptions": "runs",
    "RunState": "runs",
    "AsyncSearch": "aio.search",
    "Search": "sync.search",
    "SearchFailed": "errors",
    "SearchInfo": "searches",
    "SearchNotFound": "errors",
    "SearchState": "searches",
    "Trial": "searches",
    "TrialState": "searches",
    "Halving": "searches",
    "MedianStopping": "searches",
    "anything": "searches",
    "choice": "searches",
    "int_range": "searches",
    "log_uniform": "searches",
    "uniform": "searches",
    "Unauthenticated": "errors",
    "Unavailable": "errors",
}
_SUBMODULES = frozenset(
    {
        "configs",
        "errors",
        "events",
        "experiment",
        "history",
        "media",
        "provenance",
        "runs",
        "searches",
        "uploads",
    }
)

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "AsyncExperiment",
    "AsyncRun",
    "AsyncSearch",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "Event",
    "Experiment",
    "ExperimentNotFound",
    "Halving",
    "History",
    "InvalidState",
    "LabError",
    "MedianStopping",
    "PermissionDenied",
    "Plan",
    "Point",
    "QueueFull",
    "Run",
    "RunFailed",
    "RunInfo",
    "RunNotFound",
    "RunOptions",
    "RunState",
    "Search",
    "SearchFailed",
    "SearchInfo",
    "SearchNotFound",
    "SearchState",
    "Trial",
    "TrialState",
    "Unauthenticated",
    "Unavailable",
    "anything",
    "choice",
    "experiment",
    "int_range",
    "log_uniform",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(import_module(f"lab_client.{_MODULES[name]}"), name)
    elif name in _SUBMODULES:
        value = import_module(f"lab_client.{name}")
    elif name == "__version__":
        from lab_client.transport.version import client_version

        value = client_version()
    else:
        raise AttributeError(f"module 'lab_client' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
