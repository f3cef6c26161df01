"""The seam between RPC and HTTP handlers and the supervisor, which owns every live run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lab_core.configs import PlainValue
from lab_server.model.run import Run, RunOptions, RunRequest, TagChange
from lab_server.model.slot import Slot
from lab_server.supervisor.forecast import Forecast


class RunControl(Protocol):
    """What the RPC handlers and the exporter need from the supervisor."""

    @property
    def leader(self) -> str:
        """The address of the server that leads, where this one follows; empty on the leader itself."""

    @property
    def queue_limit(self) -> int:
        """The largest number of runs that may wait."""

    def queue_length(self) -> int:
        """Return how many runs wait."""

    def queue_position(self, run_id: str) -> int:
        """Return a run's place among those that wait, from 1; 0 when it does not wait."""

    def slots(self) -> Sequence[tuple[Slot, str]]:
        """Return every slot with the id of the run that has it, "" when it is free."""

    @property
    def devices(self) -> Sequence[str]:
        """The devices that a run may ask for."""

    def check_place(self, options: RunOptions, *, is_upload: bool) -> None:
        """Refuse options of a run that no slot can ever have; the same that `create` refuses."""

    def live(self) -> Sequence[Run]:
        """Return the runs that have a process and then those that wait, in the order of the queue."""

    def forecasts(self) -> Mapping[str, Forecast]:
        """Return when the runs that train or wait will end, by their ids."""

    def lag_s(self, run_id: str) -> float:
        """Return the age in seconds of the oldest event that is in the spool and not in the log."""

    async def create(
        self,
        request: RunRequest,
        *,
        owner: str,
        config_hash: str,
        key: str | None,
        fingerprint: str,
        configs: Mapping[str, PlainValue] | None = None,
        code_digest: str = "",
    ) -> Run:
        """Create a run, or return the one of the same idempotency key, which is unique per caller.

        `code_digest` is that of the code that it was planned with.
        """

    async def start(
        self,
        run_id: str,
        *,
        resume: bool = False,
        until_step: int = 0,
        key: str | None = None,
        code_digest: str = "",
    ) -> Run:
        """Queue a created run; with resume, a stopped or failed one; up to a step, unless that is 0."""

    async def stop(self, run_id: str, *, checkpoint: bool, grace_s: float | None = None) -> Run:
        """Ask a run to stop."""

    async def save_checkpoint(self, run_id: str) -> Run:
        """Ask a run that trains for a checkpoint."""

    async def bring_files(self, run: Run) -> Run:
        """Return a run whose files are in this server's home; another server may have had them."""

    async def update(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: TagChange = TagChange(),  # noqa: B008 - frozen
        notes: str | None = None,
    ) -> Run:
        """Change the tags, and what is not None."""

    async def delete(self, run_id: str) -> None:
        """Delete an ended run with its files."""

    async def get(self, run_id: str) -> Run:
        """Return a run by its id, or by a prefix that only one has."""
