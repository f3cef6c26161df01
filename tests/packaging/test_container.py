"""What the image does, by hand, as no engine builds it here: install the wheel, serve, be healthy."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the built wheel; its dependencies are this one's.

    They are not installed again, as torch is gigabytes: `test_what_the_wheel_needs_is_there` sees to it
    that they are those which the wheel asks for.
    """
    folder = tmp_path_factory.mktemp("image")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=280)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, timeout=280)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # A .pth file, so that what is in the new environment itself comes first.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def container(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of HTTP of a server that was started by the image's command, on free ports."""
    home = tmp_path_factory.mktemp("home")
    arguments = [re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", part) for part in _instruction("CMD")]
    process = subprocess.Popen(
        [str(installed / "lab-server"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "LAB_HOME": str(home), "LAB_DATA_PATH": str(home)},
        cwd=home,
    )
    assert process.stdout is not None
    yield process.stdout.readline().split("http=")[1].strip()
    process.terminate()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


def _instruction(name: str) -> list[str]:
    """Return the words of the last instruction of a name, in exec form."""
    found = re.findall(rf"^{name} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = ast.literal_eval(found[-1])
    return words


def test_the_installed_package_is_the_wheels_not_the_trees(installed: Path) -> None:
    code = "import lab_server, lab_core, lab_rpc; print(lab_server.__file__)"
    where = subprocess.run(
        [installed / "python", "-I", "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert where.startswith(str(installed.parent))


def test_what_the_wheel_needs_is_there() -> None:
    needed = [Requirement(text) for text in importlib.metadata.requires("lab-train") or ()]
    for requirement in needed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": "server"}):
            version = importlib.metadata.version(requirement.name)
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_the_health_check_of_the_image_passes_while_it_serves_and_fails_after(
    container: str,
) -> None:
    match = re.search(r"HEALTHCHECK [^\[]*(\[.*\])", DOCKERFILE)
    assert match
    command: list[str] = ast.literal_eval(match[1])
    assert command[0] == "python"

    def check(address: str) -> int:
        words = [sys.executable, *(w.replace("127.0.0.1:8080", address) for w in command[1:])]
        assert address in shlex.join(words)
        return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode

    assert check(container) == 0
    assert check("127.0.0.1:1") != 0


def test_the_image_serves_as_nobody_and_keeps_its_data_in_volumes() -> None:
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)
    variables = dict(re.findall(r"(LAB_\w+)=(\S+)", DOCKERFILE))
    volumes = re.search(r"^VOLUME (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert volumes
    assert set(ast.literal_eval(volumes[1])) == {variables["LAB_HOME"], variables["LAB_DATA_PATH"]}


def test_compose_fits_the_image_and_the_files_beside_it() -> None:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    services = compose["services"]
    lab = services["lab"]
    assert (ROOT / "deploy" / lab["build"]).resolve() == ROOT
    (gpu,) = lab["deploy"]["resources"]["reservations"]["devices"]
    assert (gpu["driver"], gpu["capabilities"]) == ("nvidia", ["gpu"])
    exposed = set(re.findall(r"\d+", re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[0]))
    assert {port.rsplit(":", 1)[1] for port in lab["ports"]} == exposed
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "deploy" / source).is_dir()
            else:
                assert source in compose["volumes"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    (target,) = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == "lab:8080"


def test_two_servers_on_postgresql_serve_an_agent_and_are_scraped() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.postgresql.yaml").read_text())
    first = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["lab"]
    services = compose["services"]
    homes = {name: services[name]["volumes"][0] for name in ("lab-2", "agent-1")}
    assert len({first["volumes"][0], *homes.values()}) == 3
    assert all(volume.partition(":")[0] in compose["volumes"] for volume in homes.values())
    assert services["agent-1"]["command"][:2] == ["join", "lab:50051,lab-2:50051"]
    assert services["lab-2"]["image"] == first["image"]
    host_ports = [port.split(":")[1] for port in (*first["ports"], *services["lab-2"]["ports"])]
    assert len(set(host_ports)) == len(host_ports)
    for name in ("lab", "lab-2"):
        assert f"--advertise={name}:50051" in services[name]["command"]
        assert "--store=postgresql://lab@postgres/lab" in services[name]["command"]
        assert "--slots=none" in services[name]["command"]
    assert services["postgres"]["environment"]["POSTGRES_USER"] == "lab"
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/several.yml").read_text())
    alone = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    static = scraped["scrape_configs"][0].pop("static_configs")
    assert static == [{"targets": ["lab:8080", "lab-2:8080"]}]
    alone["scrape_configs"][0].pop("static_configs")
    assert scraped == alone


def test_the_commands_of_image_and_compose_are_ones_that_the_server_takes() -> None:
    commands = [_instruction("CMD")]
    for name in ("compose.yaml", "compose.postgresql.yaml"):
        services = yaml.safe_load((ROOT / "deploy" / name).read_text())["services"]
        commands += [services[lab]["command"] for lab in services if lab.startswith("lab")]
    for words in commands:
        assert words[0] == "serve"
        shown = [sys.executable, "-m", "lab_server", "config", *words[1:]]
        result = subprocess.run(shown, capture_output=True, text=True, check=False, timeout=60)
        assert result.returncode == 0, result.stderr
