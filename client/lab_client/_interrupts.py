"""Ctrl-C against gRPC's bookkeeping: interrupted in the wrong line, a channel never closes.

Python interrupts its main thread anywhere, also between gRPC's counting of a call and the start of
the thread that serves it; `close` then waits for ever. So calls are opened in another thread, and
closing has a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc

_CLOSE_S = 3.0


def open_uninterrupted(open_call: Callable[[], Any]) -> Any:
    """Return the call that is opened; when the wait for it is interrupted, the call is cancelled."""
    if threading.current_thread() is not threading.main_thread():
        return open_call()
    opened: Future[Any] = Future()

    def run() -> None:
        try:
            opened.set_result(open_call())
        except BaseException as error:
            opened.set_exception(error)

    try:
        threading.Thread(target=run, name="lab-open", daemon=True).start()
        return opened.result()
    except KeyboardInterrupt:
        opened.add_done_callback(_cancel)
        raise


def _cancel(opened: Future[Any]) -> None:
    if opened.exception() is None:
        opened.result().cancel()


def close_within_bound(channel: grpc.Channel) -> None:
    """Close a channel, waiting no longer than a few seconds for it."""
    closing = threading.Thread(target=channel.close, name="lab-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_S)
