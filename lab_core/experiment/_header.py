"""What the console shows when a run starts."""

from __future__ import annotations

from lab_core import logger
from lab_core.configs import BaseConfigs, listing
from lab_core.experiment._record import RunRecord
from lab_core.logger import Text


def print_header(record: RunRecord, conf: BaseConfigs | None) -> None:
    """Show what is run, and with which configs: those that were never used dimmed, last."""
    logger.log([(record.experiment, Text.title), f": {record.id}"])
    if record.name not in ("", record.experiment):
        logger.log([("  ", Text.none), (record.name, Text.highlight)])
    if record.notes:
        logger.log([("  ", Text.none), (record.notes, Text.highlight)])
    if record.commit:
        dirty = "  [dirty]" if record.is_dirty else ""
        logger.log(f"  commit {record.commit[:7]}: {record.commit_message}{dirty}")
    if conf is not None:
        logger.log("Configs:", Text.heading)
        for row in listing(conf):
            logger.log(f"  {row}", Text.none if row.is_used else Text.subtle)
