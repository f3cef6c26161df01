"""The server's own log: structured lines on stderr, for people or as JSON."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from typing import Any, Final, TextIO

import structlog

RUNS = "lab_server.runs"
"""The logger of lines about runs, which are not bound to a call."""

# What an authorization header holds, and a token of ours wherever it stands.
_TOKEN = re.compile(r"(?i:\bbearer\s+)[^\s\"']+|\blab_[0-9a-f]{8}_[\w-]+")
_MINUTE_S: Final = 60.0
_SECRETS = frozenset({"token", "authorization", "password", "secret", "key"})


class Seldom:
    """Says when a line is due that would come again and again: once a minute."""

    def __init__(self) -> None:
        self._next_s = -math.inf

    def is_due(self) -> bool:
        """Return whether the last line is a minute old; if so, this one is the last."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _MINUTE_S
        return True


def set_up(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Configure all loggers, including those of libraries, to write lines of one format.

    Args:
        log_format: "human", "json", or "auto": human on a terminal.
        level: the minimum level: "debug", "info", "warning" or "error".
        stream: the target, stderr by default.
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
                redact_tokens,
            ],
        )
    )
    # grpc logs the value of each header that is not UTF-8; anybody can send one
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_not_about_a_header)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def bind_call(logger: Any, method: str, event: Any) -> Any:
    """Add the call's context, except to lines about runs: their tasks outlive the call that began them."""
    if logger.name == RUNS:
        return event
    return structlog.contextvars.merge_contextvars(logger, method, event)


def in_order(_logger: object, _method: str, event: Any) -> Any:
    """Put timestamp, level and event first."""
    return {name: event[name] for name in ("timestamp", "level", "event") if name in event} | event


def hide_secrets(_logger: object, _method: str, event: Any) -> Any:
    """Replace values whose names mark them as secret."""
    for name in event:
        if name.lower() in _SECRETS:
            event[name] = "***"
    return event


def redact_tokens(_logger: object, _method: str, line: Any) -> str:
    """Replace tokens in a rendered line: libraries write what they were sent."""
    return _TOKEN.sub("***", str(line))


def _is_not_about_a_header(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Invalid encoding")
