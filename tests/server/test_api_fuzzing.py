"""Schemathesis sends what the API's document allows, and what it forbids, to a real server.

`LAB_FUZZ_EXAMPLES=500 pytest tests/server/test_api_fuzzing.py` looks longer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab_client
from lab_client import choice
from tests.servers import RealServer, start_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0 if "LAB_FUZZ_EXAMPLES" in os.environ else 300),
]

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
NUM_EXAMPLES = os.environ.get("LAB_FUZZ_EXAMPLES", "4")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    experiments = str(Path(__file__).parents[1] / "experiments.py")
    started = start_server(tmp_path_factory.mktemp("lab-home"), "--experiments", experiments)
    yield started
    started.stop()


def _fuzz(lab: RealServer, folder: Path, config: str, *arguments: str) -> None:
    """Run schemathesis; what it finds is the error, with the request that shows it."""
    (folder / "schemathesis.toml").write_text(config)
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run"),
            *(f"{lab.http_url}/api/v1/openapi.json", "--checks", ",".join(CHECKS)),
            # a stream without an end
            *("--exclude-path", "/api/v1/events", "--generation-database", "none"),
            *("--max-examples", NUM_EXAMPLES, "--seed", "1", "--warnings", "off", *arguments),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    report = "\n".join(line[:300] for line in done.stdout.splitlines())
    assert done.returncode == 0, report
    assert "0 generated" not in report
    assert lab.process.poll() is None


def test_no_request_breaks_the_api_and_each_answer_is_as_documented(
    lab: RealServer, tmp_path: Path
) -> None:
    _fuzz(lab, tmp_path, "", "--phases", "examples,coverage,fuzzing")


def test_no_request_about_things_that_exist_does_either(lab: RealServer, tmp_path: Path) -> None:
    with lab_client.Client(lab.address) as client:
        run = client.create("valley", {"loop_count": 9}).start()
        search = client.search("counting", {"steps": choice(1, 2)}, minimize="loss", max_trials=1)
        run.wait()
        search.wait()
    known = {
        "path.run_id": run.id,
        "path.search_id": search.id,
        "path.name": "valley",
        "path.path": "log.txt",
    }
    config = "[parameters]\n" + "".join(f'"{key}" = "{text}"\n' for key, text in known.items())
    _fuzz(
        lab,
        tmp_path,
        config,
        *("--include-path-regex", r"\{", "--exclude-path-regex", "delete$"),
        *("--phases", "examples,coverage,fuzzing"),
    )
