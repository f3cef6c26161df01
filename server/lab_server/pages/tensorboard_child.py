"""The process that is a TensorBoard: on a Unix socket that only the server's user can open.

    python -m lab_server.pages.tensorboard_child SOCKET LOGDIR PATH_PREFIX

Prints "ready" once it listens. Ends with its standard input, and so with the server, however that ends.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from tensorboard import program
from werkzeug.serving import make_server


class _OnSocket(program.TensorBoardServer):  # type: ignore[misc]  # tensorboard has no types
    def __init__(self, wsgi_app: Any, _flags: Any) -> None:
        self._server = make_server(f"unix://{sys.argv[1]}", 0, wsgi_app, threaded=True)

    def serve_forever(self) -> None:
        """Serve until the process ends."""
        self._server.serve_forever()

    def get_url(self) -> str:
        """Return what TensorBoard notes of itself; it has no port."""
        return "http://localhost:0/"

    def print_serving_message(self) -> None:
        """Tell the server that it may ask."""
        print("ready", flush=True)  # noqa: T201


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    board = program.TensorBoard(server_class=_OnSocket)
    # load_fast starts a further process, with a port that everybody on the machine can reach
    board.configure(
        (
            *("tensorboard", "--load_fast=false", "--reload_interval=10"),
            *(f"--logdir={sys.argv[2]}", f"--path_prefix={sys.argv[3]}"),
        )
    )
    sys.exit(board.main())


if __name__ == "__main__":
    main()
