"""Asking for pages as a browser without JavaScript does."""

from __future__ import annotations

from typing import Any

import aiohttp

EVIL = '<img src=x onerror="alert(1)">\u202egnp.exe'


async def get_page(site: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    async with site.get(path, headers=headers) as response:
        assert response.content_type == "text/html"
        return response.status, await response.text()


async def send_form(
    site: aiohttp.ClientSession, path: str, fields: Any = None, **headers: str
) -> tuple[int, str]:
    form = aiohttp.FormData(fields or {"x": ""})
    async with site.post(path, data=form, headers=headers, allow_redirects=False) as response:
        return response.status, response.headers.get("Location", "") or await response.text()
