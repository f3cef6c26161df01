"""The handle to an experiment of the server, blocking."""

from __future__ import annotations

from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan
from lab_client.protocol import operations
from lab_client.protocol.calls import CallSequence
from lab_client.protocol.handle import ExperimentHandle
from lab_client.protocol.signatures import takes_rest
from lab_client.protocol.upload import ExperimentSource
from lab_client.runs import RunInfo
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

    @takes_rest(operations.plan, "source")
    def plan(self, calls: CallSequence[Plan]) -> Plan:
        """Resolve a config message without running anything; the arguments of `Client.plan`."""
        return self._shell.call_all(calls)

    @takes_rest(operations.create, "source")
    def create(self, calls: CallSequence[RunInfo]) -> Run:
        """Create a run, which does not start yet; the arguments of `Client.create`."""
        return Run(self._shell, self._shell.call_all(calls))

    def _repr_html_(self) -> str:
        return experiment_html(self.info, self.schema)
