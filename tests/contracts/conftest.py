"""An empty store of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lab_server.store import Store
from tests.contracts.stores import MAKERS, Make


@pytest.fixture(params=MAKERS, scope="module")
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return what makes empty stores of a kind."""
    kind = request.param
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    return lambda: MAKERS[kind](
        tmp_path_factory.mktemp("store"), postgres.new_url() if postgres else ""
    )


@pytest.fixture
async def store(make_store: Make) -> AsyncIterator[Store]:
    store = make_store()
    yield store
    await store.close()
