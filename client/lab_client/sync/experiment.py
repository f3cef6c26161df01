"""The handle to an experiment of the server, blocking."""

from __future__ import annotations

from functools import partial
from typing import Any

from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan
from lab_client.protocol import operations
from lab_client.protocol.handle import ExperimentHandle
from lab_client.protocol.operations import Overrides
from lab_client.protocol.upload import ExperimentSource, with_code
from lab_client.sync.run import Run
from lab_client.sync.shell import SyncShell
from lab_client.views.notebook import experiment_html


class Experiment(ExperimentHandle):
    """An experiment of the server.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     mnist = client.experiment("mnist")
        ...     print(mnist.schema["epochs"].default)
        ...     run = mnist.create({"dataset": "mnist_5k"}).start()
    """

    def __init__(
        self,
        shell: SyncShell,
        info: ExperimentInfo,
        schema: ExperimentSchema,
        source: ExperimentSource | None = None,
    ) -> None:
        super().__init__(info, schema, source)
        self._shell = shell

    def plan(self, overrides: Overrides | None = None, **arguments: Any) -> Plan:
        """Resolve a config message without running anything; the arguments of `Client.plan`."""
        make = partial(operations.plan, overrides=overrides, **arguments)
        return self._shell.call_all(with_code(self._source, make))

    def create(self, overrides: Overrides | None = None, **arguments: Any) -> Run:
        """Create a run, which does not start yet; the arguments of `Client.create`."""
        make = partial(operations.create, overrides=overrides, **arguments)
        return Run(self._shell, self._shell.call_all(with_code(self._source, make)))

    def _repr_html_(self) -> str:
        return experiment_html(self.info, self.schema)
