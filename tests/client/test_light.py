"""The client is light: what importing it brings in, in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "pandas", "matplotlib", "lab_core", "lab_server")


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import lab_client",
        "from lab_client import *",
        "from lab_client import Client, AsyncClient, experiment",
        "import lab_client.cli.app",
        "import lab_client; lab_client.Client().close()",
    ],
)
def test_importing_the_client_brings_in_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & set(HEAVY)


def test_importing_the_package_alone_does_not_even_bring_in_grpc() -> None:
    loaded = modules_after("import lab_client; lab_client.LabError; lab_client.RunState")
    assert not loaded & {"grpc", "google.protobuf", "tqdm", "typer", "asyncio"}


def test_all_names_of_the_package_can_be_loaded() -> None:
    import lab_client

    assert sorted(lab_client.__all__) == lab_client.__all__
    for name in (*lab_client.__all__, "__version__"):
        assert getattr(lab_client, name) is not None
        assert name in dir(lab_client)
    with pytest.raises(AttributeError, match="nonsense"):
        lab_client.nonsense  # noqa: B018
