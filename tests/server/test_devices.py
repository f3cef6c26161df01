"""Slots and gauges of GPUs, with a driver's library that the test makes up."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab_server.agent.host import host_name
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.gpus import default_slots, missing_gpus
from lab_server.executors.remote.registry import Agents
from lab_server.http.gpu_gauges import collect_gpus
from lab_server.model.agent import HOSTS_POOL, Hello
from lab_server.model.agent import Gpus as AgentGpus
from lab_server.model.slot import parse_slots
from lab_server.rpc.gpus import Gpus
from tests.server.conftest import open_site, open_surface


class NVMLError(Exception):
    """As pynvml's own."""


def _no_power(handle: int) -> int:
    raise NVMLError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=50 + handle),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=1 << 30, total=8 << 30),
        nvmlDeviceGetTemperature=lambda handle, sensor: 60,
        nvmlDeviceGetPowerUsage=_no_power,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=fail))
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(()))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def samples() -> dict[tuple[str, str], float]:
    devices = Devices()
    devices.open()
    return {
        (sample.name, sample.labels["device"]): sample.value
        for family in collect_gpus(devices)
        for sample in family.samples
    }


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_has_the_gauges_that_its_driver_can_tell() -> None:
    assert samples() == {
        ("lab_device_utilization_ratio", "cuda:0"): 0.5,
        ("lab_device_utilization_ratio", "cuda:1"): 0.51,
        ("lab_device_memory_used_bytes", "cuda:0"): 1 << 30,
        ("lab_device_memory_used_bytes", "cuda:1"): 1 << 30,
        ("lab_device_memory_size_bytes", "cuda:0"): 8 << 30,
        ("lab_device_memory_size_bytes", "cuda:1"): 8 << 30,
        ("lab_device_temperature_celsius", "cuda:0"): 60,
        ("lab_device_temperature_celsius", "cuda:1"): 60,
    }


@pytest.mark.usefixtures("two_gpus")
async def test_the_servers_page_shows_them(tmp_path: Path) -> None:
    async with (
        open_surface(tmp_path) as surface,
        open_site(surface) as site,
        site.get("/server") as response,
    ):
        text = await response.text()
    line = text[text.index('<th scope="row">cuda:1') :].partition("</tr>")[0]
    told = re.findall(r'<td class="num">(.*?)</td>', line)
    assert told == ["51 %", "1.07 GB of 8.59 GB", "60 °C", "not known"]


@pytest.mark.usefixtures("no_driver")
def test_without_a_driver_there_are_no_samples_and_one_slot() -> None:
    assert samples() == {}
    assert default_slots() == "cpu:1"


@pytest.mark.usefixtures("two_gpus")
def test_each_gpu_is_a_slot() -> None:
    assert default_slots() == "cuda:0,cuda:1"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("visible", "slots"),
    [
        ("", "cpu:1"),
        ("-1", "cpu:1"),
        ("1", "cuda:0"),
        ("0,1", "cuda:0,cuda:1"),
        ("0,7,1", "cuda:0"),
    ],
)
def test_hidden_gpus_are_no_slots(
    monkeypatch: pytest.MonkeyPatch, visible: str, slots: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert default_slots() == slots


@pytest.mark.usefixtures("two_gpus")
def test_slots_on_gpus_that_are_not_there_are_named() -> None:
    assert missing_gpus(parse_slots("cuda:0,cuda:1*2,cpu:3")) == ""
    assert missing_gpus(parse_slots("cuda:0,cuda:7*2,cuda:2")) == (
        "names cuda:2, cuda:7, but this machine has GPUs 0 to 1"
    )


@pytest.mark.usefixtures("two_gpus")
def test_slots_on_hidden_gpus_are_named_with_what_hides_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937")
    assert missing_gpus(parse_slots("cuda:0")) == ""
    assert missing_gpus(parse_slots("cuda:1")) == (
        "names cuda:1, but this machine has one GPU, cuda:0 with CUDA_VISIBLE_DEVICES='GPU-8932f937'"
    )


@pytest.mark.usefixtures("no_driver")
def test_visible_devices_make_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert default_slots() == "cpu:1"
    assert missing_gpus(parse_slots("cpu:4")) == ""
    assert "this machine has no GPU" in missing_gpus(parse_slots("cuda:0"))


async def test_the_agent_of_the_own_slots_tells_of_the_machines_gpus_in_its_name(
    two_gpus: None,
) -> None:
    devices, agents = Devices(), Agents(lease_s=30)
    devices.open()
    gpus = Gpus(devices, agents)

    async def told() -> list[tuple[str, str, str]]:
        return [(gpu.pool, gpu.agent, gpu.reading.device) for gpu in await gpus.read()]

    own = [("", "", "cuda:0"), ("", "", "cuda:1")]
    assert await told() == own
    agent = agents.attach(host_name(), HOSTS_POOL, Hello("1", ()), lambda _: None)
    assert await told() == own, "it has said nothing yet"
    agents.receive(agent, AgentGpus(tuple(devices.readings())))
    hosts = [(HOSTS_POOL, host_name(), "cuda:0"), (HOSTS_POOL, host_name(), "cuda:1")]
    assert await told() == hosts
    agents.detach(agent)
    assert await told() == own, "one out of reach does not tell any more"
    other = agents.attach(f"{host_name()}0", HOSTS_POOL, Hello("1", ()), lambda _: None)
    agents.receive(other, AgentGpus(tuple(devices.readings())))
    assert (await told())[:2] == own, "that of another machine, whose name begins alike, does not"
