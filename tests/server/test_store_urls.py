"""A store that cannot be used is refused in a sentence, by the server and by the commands beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_server.errors import StoreRefused
from lab_server.store.beside import beside_the_server
from lab_server.store.databases.urls import open_database
from lab_server.store.transfer import move


def beside(url: str) -> object:
    return beside_the_server(url, lambda _: None)


def opened(url: str) -> object:
    return open_database(url, lambda: False, address="")


def moved(url: str) -> object:
    return move(url, "sqlite:////nowhere/lab.db")


all_ways = pytest.mark.parametrize("use", [beside, opened, moved])


@all_ways
def test_a_missing_driver_is_named(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreRefused, match=r"pip install 'lab-train\[postgresql\]'"):
        use("postgresql://ada@db/lab")


@all_ways
@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://ada:hush@db/lab", "postgres:/ada:hush@db", "sqlite://", ""]
)
def test_a_url_of_no_store_is_refused_without_its_password(
    use: Callable[[str], object], url: str
) -> None:
    with pytest.raises(StoreRefused, match="a store is postgresql://USER@HOST/DATABASE") as refused:
        use(url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("use", [beside, moved])
def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, use: Callable[[str], object]) -> None:
    with pytest.raises(StoreRefused, match="there is no store at"):
        use(f"sqlite:///{tmp_path}/lab.db")
    assert not list(tmp_path.iterdir())
