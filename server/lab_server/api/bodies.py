"""Bodies of requests, within a size and a time."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from lab_server.api.errors import Refused

BODY_S: Final = 60.0
"""So long a body may take to come: who has no token, too, could hold connections open with it."""


async def read_body(request: web.Request) -> bytes:
    """Return a request's body.

    Raises:
        Refused: If it is too large, or does not come in time.
    """
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        sentence = "the body is larger than this server takes (its setting max_message_bytes)"
        raise Refused(413, "TOO_LARGE", sentence) from None
    except TimeoutError:
        raise Refused(408, "TOO_SLOW", f"the body took longer than {BODY_S:g} s") from None
