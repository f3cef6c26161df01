"""Every query of every dashboard and rule, asked of a real Prometheus that scrapes a real training."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from lab_client import Client, choice
from lab_rpc.v1 import config_pb2, training_service_pb2, training_service_pb2_grpc
from tests.servers import RealServer

pytestmark = pytest.mark.slow

pb = training_service_pb2
DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_S = 60

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed: apt-get install prometheus",
)


class Prometheus:
    """Asks a Prometheus until it has an answer."""

    def __init__(self, url: str) -> None:
        self._url = url

    def has_data(self, query: str) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if self._ask(query):
                return True
            time.sleep(0.2)
        return False

    def _ask(self, query: str) -> list[Any]:
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", (query, answer)
        result: list[Any] = answer["data"]["result"]
        return result


@pytest.fixture(scope="module")
def training(server: RealServer) -> Iterator[str]:
    """A run and a search that train as long as the tests take, and calls of all outcomes."""
    with grpc.insecure_channel(server.address) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        overrides = {
            "steps": config_pb2.Value(int_value=1_000_000),
            "step_s": config_pb2.Value(double_value=0.02),
        }
        config = config_pb2.ConfigMessage(overrides=overrides)
        request = pb.CreateRunRequest(experiment="counting", config=config)
        run_id = stub.CreateRun(request, timeout=60).run.id
        stub.StartRun(pb.StartRunRequest(run_id=run_id), timeout=60)
        watch = stub.WatchRun(pb.WatchRunRequest(run_id=run_id))
        for response in watch:
            if any(event.HasField("metrics") for event in response.events):
                break
        with Client(server.address) as client:
            # one trial that ends, and one that trains as long
            space = {"steps": choice(2, 1_000_000), "step_s": 0.02}
            search = client.search("counting", space, minimize="loss")
            for entry in search.watch():
                if entry.kind == "told":
                    break
            yield run_id
            search.stop().wait(60)
        watch.cancel()
        stub.StopRun(pb.StopRunRequest(run_id=run_id), timeout=60)


@pytest.fixture(scope="module")
def prometheus(
    server: RealServer, training: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus with the deployment's configuration, aimed at the server and in a hurry."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
    target = server.http_url.removeprefix("http://")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(DEPLOY / "prometheus" / "lab.rules.yml", folder)
    process = subprocess.Popen(
        [
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={folder / 'data'}", "--web.listen-address=127.0.0.1:0"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if match := re.search(r'msg="Listening on" address=(\S+)', line):
                break
        else:
            raise AssertionError("".join(lines))
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield Prometheus(f"http://{match[1]}")
    finally:
        process.terminate()
        process.wait(timeout=60)
    drain.wait(timeout=60)


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Yield title and query of every panel, its variables standing for everything."""
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = re.sub(r"\$\w+", ".*", target["expr"])
                yield f"{path.stem}: {panel['title']} {target['refId']}", query


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "lab.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@needs_prometheus
def test_every_query_of_every_dashboard_returns_data(
    server: RealServer, prometheus: Prometheus
) -> None:
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=30) as response:
        has_gpu = "lab_device_utilization_ratio{" in response.read().decode()
    empty = []
    with grpc.insecure_channel(server.address) as channel:
        stub = training_service_pb2_grpc.TrainingServiceStub(channel)
        for title, query in dashboard_queries():
            if "lab_device_" in query and not has_gpu:
                continue  # there is nothing to tell of on a machine without a GPU
            with pytest.raises(grpc.RpcError):  # something for the errors' panel
                stub.GetRun(pb.GetRunRequest(run_id="none"), timeout=60)
            if not prometheus.has_data(query):
                empty.append((title, query))
    assert not empty


@needs_prometheus
def test_what_every_rule_compares_has_data(prometheus: Prometheus) -> None:
    empty = []
    for rule in rules():
        match = re.fullmatch(r"(.*) (?:<|>|==) [\d.]+", rule["expr"])
        assert match, f"{rule['alert']} is no comparison with a number"
        if not prometheus.has_data(match[1]):
            empty.append(rule["alert"])
    assert not empty


@needs_prometheus
def test_every_rule_fires_when_it_should_and_not_before() -> None:
    folder = DEPLOY / "prometheus"
    result = subprocess.run(
        ["promtool", "test", "rules", "lab.rules.test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    tested = (folder / "lab.rules.test.yml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", tested))
    assert fired == {rule["alert"] for rule in rules()}


@needs_prometheus
@pytest.mark.parametrize("name", ["prometheus.yml", "several.yml"])
def test_the_configuration_is_valid(name: str) -> None:
    subprocess.run(
        ["promtool", "check", "config", str(DEPLOY / "prometheus" / name)],
        check=True,
        timeout=60,
    )


def test_dashboards_have_ids_of_their_own_and_the_provisioned_source() -> None:
    sources = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    (uid,) = {source["uid"] for source in sources}
    uids = set()
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        dashboard = json.loads(path.read_text())
        uids.add(dashboard["uid"])
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(ids)) == len(ids)
        assert {
            target["datasource"]["uid"] for p in dashboard["panels"] for target in p["targets"]
        } == {uid}
    assert len(uids) == 2


def test_operators_read_of_every_alert_what_to_do() -> None:
    page = (DEPLOY.parent / "docs" / "operations.md").read_text()
    told = re.findall(r"^\| (Lab\w+) \|", page, re.MULTILINE)
    assert sorted(told) == sorted(rule["alert"] for rule in rules())


def test_no_two_panels_have_the_same_description() -> None:
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        panels = json.loads(path.read_text())["panels"]
        told = [panel["description"] for panel in panels if "description" in panel]
        assert len(set(told)) == len(told), path.name


def test_a_panel_of_several_servers_has_as_many_lines_as_legends() -> None:
    """A follower has the service's series, too: a line of each server must be told from the others."""
    dashboard = json.loads((DEPLOY / "grafana/dashboards/service.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            is_a_run = "run" in target["legendFormat"] or "search" in target["legendFormat"]
            is_told = "{{instance}}" in target["legendFormat"] or is_a_run
            is_joined = re.match(r"\(?(sum|max|histogram_quantile)\b", target["expr"])
            assert is_told or is_joined or panel["type"] == "table", panel["title"]
