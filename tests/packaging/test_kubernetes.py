"""The manifests in deploy/kubernetes fit Kubernetes' own schema, and the command that they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from lab_server.cli.agent import app

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
MANIFESTS = sorted(FOLDER.glob("*.yaml"))


def objects(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_fits_the_schema_of_kubernetes(path: Path) -> None:
    for each in objects(path):
        named = {**each["metadata"], "name": "x"}  # the schema checker knows no generateName
        kubernetes_validate.validate({**each, "metadata": named}, "1.31", strict=True)


def test_a_manifest_that_does_not_is_found() -> None:
    (job,) = objects(FOLDER / "agent-job.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["arguments"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.31", strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_gives_lab_agent_options_that_it_has(path: Path) -> None:
    known = {name for each in get_command(app).commands["join"].params for name in each.opts}  # type: ignore[attr-defined]
    for each in objects(path):
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["tini", "--", "lab-agent"]
        assert container["args"][0] == "join"
        options = {argument.partition("=")[0] for argument in container["args"][2:]}
        assert options <= known
