"""Ray, by its Jobs REST API: no import of Ray, and no version of it, on the server."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lab_server.executors.pools.engine import EngineError, Job, JobState
from lab_server.settings.pools import PoolSettings

if TYPE_CHECKING:
    import aiohttp

_TIMEOUT_S: Final = 20.0
_STATES: Final = {
    "PENDING": JobState.WAITING,
    "RUNNING": JobState.RUNNING,
    "STOPPED": JobState.ENDED,
    "SUCCEEDED": JobState.ENDED,
    "FAILED": JobState.ENDED,
}


class RayEngine:
    """Submits agents to a Ray cluster, with the resources that the pool says.

    Resources are asked for explicitly: without, Ray starts a job's entrypoint on the head, whatever it
    needs. What is in a job can be read on Ray's dashboard, so it holds no more than a join token.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._url = settings.address.rstrip("/") + "/api/jobs/"
        self._session: aiohttp.ClientSession | None = None

    async def submit(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Submit a job; the same name again is the same job.

        Raises:
            EngineError: If Ray is away, or refuses it.
        """
        settings = self._settings
        body: dict[str, Any] = {
            "submission_id": name,
            # exec: Ray kills the process that it started, a shell, and nothing below it
            "entrypoint": f"exec {shlex.join(command)}",
            "entrypoint_num_cpus": settings.cpus,
            "entrypoint_num_gpus": settings.gpus,
            "runtime_env": {"env_vars": dict(environment)} if environment else {},
            "metadata": {"lab_pool": settings.name},
        }
        if settings.memory_mb:
            body["entrypoint_memory"] = settings.memory_mb << 20
        try:
            await self._call("POST", "", body)
        except EngineError:
            # an answer that was lost: it is there
            if name not in await self.jobs(name):
                raise

    async def jobs(self, prefix: str) -> Mapping[str, Job]:
        """Return the jobs whose names begin so, by name.

        Raises:
            EngineError: If Ray is away.
        """
        found = await self._call("GET", "")
        jobs = {}
        for job in found if isinstance(found, list) else ():
            name = str(job.get("submission_id") or "")
            if name.startswith(prefix):
                state = _STATES.get(str(job.get("status")), JobState.WAITING)
                reason = " ".join(str(job.get("message") or "").split())
                jobs[name] = Job(state, reason[:500], job.get("status") == "FAILED")
        return jobs

    async def cancel(self, name: str) -> None:
        """End a job that waits or runs.

        Raises:
            EngineError: If Ray is away.
        """
        await self._call("POST", f"{name}/stop")

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        import aiohttp  # it takes a tenth of a server's start, and few have such a pool

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        where = self._settings.address
        try:
            async with self._session.request(method, self._url + path, json=body) as answer:
                if answer.status >= 400:
                    text = (await answer.text()).strip().splitlines() or [answer.reason or ""]
                    raise EngineError(f"Ray at {where} refuses it: {text[-1][:300]}")
                return await answer.json(content_type=None)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise EngineError(f"Ray at {where} does not answer: {error or 'timeout'}") from error
