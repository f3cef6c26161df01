"""The handle to an experiment of the server, for asyncio."""

from __future__ import annotations

from functools import partial
from typing import Any

from lab_client.aio.run import AsyncRun
from lab_client.aio.shell import AsyncShell
from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan
from lab_client.protocol import operations
from lab_client.protocol.handle import ExperimentHandle
from lab_client.protocol.operations import Overrides
from lab_client.protocol.upload import ExperimentSource, with_code
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

    async def plan(self, overrides: Overrides | None = None, **arguments: Any) -> Plan:
        """Resolve a config message without running anything; the arguments of `AsyncClient.plan`."""
        make = partial(operations.plan, overrides=overrides, **arguments)
        return await self._shell.call_all(with_code(self._source, make))

    async def create(self, overrides: Overrides | None = None, **arguments: Any) -> AsyncRun:
        """Create a run, which does not start yet; the arguments of `AsyncClient.create`."""
        make = partial(operations.create, overrides=overrides, **arguments)
        return AsyncRun(self._shell, await self._shell.call_all(with_code(self._source, make)))

    def _repr_html_(self) -> str:
        return experiment_html(self.info, self.schema)
