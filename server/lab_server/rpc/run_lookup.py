"""The run that a call names."""

from __future__ import annotations

import structlog

from lab_server.model.run import Run
from lab_server.rpc.requests import check_run_id
from lab_server.supervisor.protocol import RunControl


async def find_run(supervisor: RunControl, run_id: str) -> Run:
    """Return a run by its id or a unique prefix, and bind its id to the call's log lines.

    Raises:
        InvalidRequest: If the id is empty.
        NotFound: If there is no such run, or several.
    """
    run = await supervisor.get(check_run_id(run_id))
    structlog.contextvars.bind_contextvars(run=run.id)
    return run
