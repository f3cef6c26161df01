"""The handle to an experiment of the server, for asyncio."""

from __future__ import annotations

from lab_client.aio.run import AsyncRun
from lab_client.aio.shell import AsyncShell
from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan
from lab_client.protocol import operations
from lab_client.protocol.calls import CallSequence
from lab_client.protocol.handle import ExperimentHandle
from lab_client.protocol.signatures import takes_rest
from lab_client.protocol.upload import ExperimentSource
from lab_client.runs import RunInfo
from lab_client.views.notebook import experiment_html


class AsyncExperiment(ExperimentHandle):
    """An experiment of the server, for asyncio.

    Example:
        >>> from lab_client import AsyncClient
        >>> async def main() -> None:
        ...     async with AsyncClient() as client:
        ...         mnist = await client.experiment("mnist")
        ...         run = await (await mnist.create({"dataset": "mnist_5k"})).start()
    """

    def __init__(
        self,
        shell: AsyncShell,
        info: ExperimentInfo,
        schema: ExperimentSchema,
        source: ExperimentSource | None = None,
    ) -> None:
        super().__init__(info, schema, source)
        self._shell = shell

    @takes_rest(operations.plan, "source")
    async def plan(self, calls: CallSequence[Plan]) -> Plan:
        """Resolve a config message without running anything; the arguments of `AsyncClient.plan`."""
        return await self._shell.call_all(calls)

    @takes_rest(operations.create, "source")
    async def create(self, calls: CallSequence[RunInfo]) -> AsyncRun:
        """Create a run, which does not start yet; the arguments of `AsyncClient.create`."""
        return AsyncRun(self._shell, await self._shell.call_all(calls))

    def _repr_html_(self) -> str:
        return experiment_html(self.info, self.schema)
