"""Handles to an experiment of the server, of both kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan

if TYPE_CHECKING:
    from lab_client.aio.client import AsyncClient
    from lab_client.aio.run import AsyncRun
    from lab_client.protocol.operations import Overrides
    from lab_client.sync.client import Client
    from lab_client.sync.run import Run


class _ExperimentHandle:
    """What the server said of an experiment when it was asked.

    Attributes:
        info: its name and summary.
        schema: its config items.
    """

    def __init__(self, info: ExperimentInfo, schema: ExperimentSchema) -> None:
        self.info = info
        self.schema = schema

    @property
    def name(self) -> str:
        """The name by which runs ask for it."""
        return self.info.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self.schema.items)} config items>"

    def _repr_html_(self) -> str:
        from lab_client.views.notebook import experiment_html

        return experiment_html(self.info, self.schema)


class Experiment(_ExperimentHandle):
    """An experiment of the server.

    Example:
        >>> from lab_client import Client
        >>> with Client() as client:  # doctest: +SKIP
        ...     mnist = client.experiment("mnist")
        ...     print(mnist.schema["epochs"].default)
        ...     run = mnist.create({"dataset": "mnist_5k"}).start()
    """

    def __init__(self, client: Client, info: ExperimentInfo, schema: ExperimentSchema) -> None:
        super().__init__(info, schema)
        self._client = client

    def plan(self, overrides: Overrides | None = None, **arguments: Any) -> Plan:
        """Resolve a config message and run nothing; the arguments of `Client.plan`."""
        return self._client.plan(self.name, overrides, **arguments)

    def create(self, overrides: Overrides | None = None, **arguments: Any) -> Run:
        """Create a run, which does not start yet; the arguments of `Client.create`."""
        return self._client.create(self.name, overrides, **arguments)


class AsyncExperiment(_ExperimentHandle):
    """An experiment of the server, for asyncio.

    Example:
        >>> from lab_client import AsyncClient
        >>> async def main() -> None:
        ...     async with AsyncClient() as client:
        ...         mnist = await client.experiment("mnist")
        ...         run = await (await mnist.create({"dataset": "mnist_5k"})).start()
    """

    def __init__(self, client: AsyncClient, info: ExperimentInfo, schema: ExperimentSchema) -> None:
        super().__init__(info, schema)
        self._client = client

    async def plan(self, overrides: Overrides | None = None, **arguments: Any) -> Plan:
        """Resolve a config message and run nothing; the arguments of `AsyncClient.plan`."""
        return await self._client.plan(self.name, overrides, **arguments)

    async def create(self, overrides: Overrides | None = None, **arguments: Any) -> AsyncRun:
        """Create a run, which does not start yet; the arguments of `AsyncClient.create`."""
        return await self._client.create(self.name, overrides, **arguments)
