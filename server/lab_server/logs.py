"""The server's own log: structured lines on stderr, for people or as JSON."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

RUNS = "lab_server.runs"
"""The logger of changes of runs' states."""

_SECRETS = frozenset({"token", "authorization", "password", "secret", "key"})


def set_up(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Make every logger, also those of libraries, write lines of one form.

    Args:
        log_format: "human", "json", or "auto": human on a terminal.
        level: the least grave line that is written: "debug", "info", "warning" or "error".
        stream: where to; stderr unless told.
    """
    stream = stream or sys.stderr
    is_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(default=str)
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    tail = [structlog.processors.format_exc_info] if is_json else []
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            bind_call,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *tail,
                in_order,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def bind_call(logger: Any, method: str, event: Any) -> Any:
    """Add what a call bound, but to lines of runs: their tasks may have begun in a call long over."""
    if logger.name == RUNS:
        return event
    return structlog.contextvars.merge_contextvars(logger, method, event)


def in_order(_logger: object, _method: str, event: Any) -> Any:
    """Put first what every line has."""
    return {name: event[name] for name in ("timestamp", "level", "event") if name in event} | event


def hide_secrets(_logger: object, _method: str, event: Any) -> Any:
    """Replace values whose names say that they are secret."""
    for name in event:
        if name.lower() in _SECRETS:
            event[name] = "***"
    return event
