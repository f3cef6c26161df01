"""The RPC that opens the dashboard: where it is, and a code that logs the caller in."""

from __future__ import annotations

from lab_rpc.v1 import training_service_pb2
from lab_server.errors import InvalidState
from lab_server.rpc.calls import auth
from lab_server.rpc.calls.interceptors import Context
from lab_server.security.sessions import Sessions

pb = training_service_pb2


class DashboardDoor:
    """A handler named like its RPC.

    Args:
        url: of the dashboard, "" when the server has none.
        sessions: of browsers.
        has_tokens: whether callers need one.
    """

    def __init__(self, url: str, sessions: Sessions, *, has_tokens: bool) -> None:
        self._url = url
        self._sessions = sessions
        self._has_tokens = has_tokens

    # N802: the name is that of the RPC
    async def OpenDashboard(  # noqa: N802
        self, _request: pb.OpenDashboardRequest, _context: Context
    ) -> pb.OpenDashboardResponse:
        """Tell where the dashboard is, with a code that opens one session of the caller's."""
        if not self._url:
            raise InvalidState("this server has no dashboard: it was started with --no-dashboard")
        code = self._sessions.new_code(auth.credentials()) if self._has_tokens else ""
        return pb.OpenDashboardResponse(url=self._url, code=code)
