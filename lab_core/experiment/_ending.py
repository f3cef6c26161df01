"""How a run ended: its status, and the traceback of what ended it."""

from __future__ import annotations

import traceback

from lab_core.experiment._record import RunRecord, Status
from lab_core.loop import Loop, StopRun

_MAX_TRACEBACK_CHARS = 30_000


def note_end(record: RunRecord, error: BaseException | None, loop: Loop) -> None:
    """Record how a run ended.

    Args:
        record: of the run.
        error: what ended it; None if nothing was raised.
        loop: the run's.
    """
    record.status = _status(error, loop)
    if record.status is Status.FAILED and error is not None:
        # the end of it, which says most, and fits into the reserve
        text = "".join(traceback.format_exception(error))
        record.traceback = text[-_MAX_TRACEBACK_CHARS:]


def _status(error: BaseException | None, loop: Loop) -> Status:
    if isinstance(error, StopRun | KeyboardInterrupt):
        return Status.STOPPED
    is_clean_exit = isinstance(error, SystemExit) and error.code in (None, 0)
    if error is not None and not is_clean_exit:
        return Status.FAILED
    is_stopped = loop.is_interrupted or loop.exit_status is not None
    return Status.STOPPED if is_stopped else Status.COMPLETED
