"""Every RPC against every kind of caller: the table of docs/operations.md."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lab_rpc.v1 import config_pb2, search_pb2, search_service_pb2, training_service_pb2
from lab_server.api.json_messages import to_json
from lab_server.api.routes import ROUTES, Route
from lab_server.api.special import SPECIAL
from lab_server.messages.searches import Defaults, spec_from_proto
from lab_server.model.roles import ROLES, Role
from lab_server.model.run import RunRequest, RunState
from lab_server.model.search import Sampler
from lab_server.security.tokens import TokenFile, Tokens
from tests.server.conftest import Surface, open_site, open_surface

pb = training_service_pb2
Value = config_pb2.Value
_SPEC = search_pb2.SearchSpec(
    experiment="mnist",
    space={
        "epochs": search_pb2.Domain(
            choice=config_pb2.ListValue(values=[Value(int_value=1), Value(int_value=2)])
        )
    },
    objective=search_pb2.Objective(metric="loss", direction=search_pb2.DIRECTION_MINIMIZE),
    budget=search_pb2.SearchBudget(max_trials=2),
)
OK, UNAUTHENTICATED, DENIED = "OK", "UNAUTHENTICATED", "PERMISSION_DENIED"
NOBODIES = ("none", "garbage", "wrong", "expired", "revoked")
SOMEBODIES = ("viewer", "operator on own", "operator on another's", "admin")

# For each RPC what a viewer gets, an operator on an own run and on another's, and an admin.
READ = (OK, OK, OK, OK)
CREATE = (DENIED, OK, OK, OK)
CHANGE = (DENIED, OK, DENIED, OK)
TABLE = {
    "GetServerInfo": READ,
    "OpenDashboard": READ,
    "ListExperiments": READ,
    "GetExperiment": READ,
    "PlanRun": READ,
    "CreateRun": CREATE,
    "StartRun": CHANGE,
    "GetRun": READ,
    "ListRuns": READ,
    "UpdateRun": CHANGE,
    "DeleteRun": CHANGE,
    "StopRun": CHANGE,
    "SaveCheckpoint": CHANGE,
    "WatchRun": READ,
    "WatchMetrics": READ,
    "QueryMetrics": READ,
    "QueryMedia": READ,
    "ListArtifacts": READ,
    "DownloadArtifact": READ,
    "UploadCode": CREATE,
}
SEARCH_TABLE = {
    "CreateSearch": CREATE,
    "GetSearch": READ,
    "ListSearches": READ,
    "ListTrials": READ,
    "WatchSearch": READ,
    "UpdateSearch": CHANGE,
    "StopSearch": CHANGE,
    "EnqueueTrials": CHANGE,
    "DeleteSearch": CHANGE,
}


_TRAINING = pb.DESCRIPTOR.services_by_name["TrainingService"]
_SEARCH = search_service_pb2.DESCRIPTOR.services_by_name["SearchService"]


@dataclass
class Guarded:
    """A surface that asks for tokens, and a header for each kind of caller."""

    surface: Surface
    file: TokenFile
    headers: dict[str, str]

    async def code(self, method: str, run_id: str, header: str) -> str:
        """Return the code of a call of TrainingService."""
        return await self.code_of(
            _TRAINING.methods_by_name[method], _request(method, run_id), header
        )

    async def code_of(self, descriptor: Any, request: bytes, header: str) -> str:
        """Return the code of a call."""
        channel = self.surface.channel
        make: Any = channel.unary_stream if descriptor.server_streaming else channel.unary_unary
        metadata = (("authorization", header),) if header else ()
        method = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
        call = make(method)(request, metadata=metadata)
        try:
            await (call.read() if descriptor.server_streaming else call)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        finally:
            call.cancel()
        return OK


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    file = TokenFile(tmp_path / "tokens.json")
    right = file.create("olga", Role.OPERATOR)
    revoked = file.create("rita", Role.ADMIN)
    file.revoke(revoked.split("_")[1])
    prefix, token_id, _ = right.split("_", 2)
    headers = {
        "none": "",
        "garbage": "Basic b2xnYTpwdw==",
        "wrong": f"Bearer {prefix}_{token_id}_not-the-secret",
        "expired": f"Bearer {file.create('eve', Role.ADMIN, time.time() - 1)}",
        "revoked": f"Bearer {revoked}",
        "viewer": f"Bearer {file.create('vera', Role.VIEWER)}",
        "operator on own": f"Bearer {right}",
        "operator on another's": f"Bearer {right}",
        "admin": f"Bearer {file.create('ada', Role.ADMIN)}",
    }
    async with open_surface(tmp_path, Tokens(tmp_path / "tokens.json")) as surface:
        yield Guarded(surface, file, headers)


async def _read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


def _request(method: str, run_id: str) -> bytes:
    """Return a request that an admin is answered OK to."""
    fields: dict[str, dict[str, Any]] = {
        "GetServerInfo": {},
        "OpenDashboard": {},
        "ListExperiments": {},
        "ListRuns": {},
        "WatchMetrics": {"from_start": True},
        "GetExperiment": {"name": "mnist"},
        "PlanRun": {"experiment": "mnist"},
        "CreateRun": {"experiment": "mnist"},
        "DownloadArtifact": {"run_id": run_id, "path": "log.txt"},
        "UploadCode": {
            "manifest": {
                "module": "sine",
                "files": [{"path": "sine.py", "sha256": hashlib.sha256(b"").hexdigest()}],
            }
        },
        "UpdateRun": {"run_id": run_id, "name": "new", "update_mask": {"paths": ["name"]}},
    }
    message = getattr(pb, f"{method}Request")(**fields.get(method, {"run_id": run_id}))
    data: bytes = message.SerializeToString()
    return data


@pytest.mark.parametrize("method", sorted(TABLE))
async def test_each_caller_gets_what_the_table_says(guarded: Guarded, method: str) -> None:
    expected = dict.fromkeys(NOBODIES, UNAUTHENTICATED)
    expected |= dict(zip(SOMEBODIES, TABLE[method], strict=True))
    found = {}
    for caller in expected:
        owner = "another" if caller == "operator on another's" else "olga"
        run = await guarded.surface.supervisor.create(
            RunRequest("mnist"), owner=owner, config_hash="", key=None, fingerprint=""
        )
        if method in ("StopRun", "SaveCheckpoint"):
            await guarded.surface.supervisor.move(run, RunState.RUNNING)
        folder = guarded.surface.folder_of(run)
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("x")
        found[caller] = await guarded.code(method, run.id, guarded.headers[caller])
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "route", [*ROUTES, *SPECIAL], ids=lambda route: f"{route.verb} {route.path}"
)
async def test_each_caller_gets_the_same_by_http(guarded: Guarded, route: Route) -> None:
    """The same table: a route is its RPC."""
    statuses = {OK: 200, UNAUTHENTICATED: 401, DENIED: 403}
    expected = dict.fromkeys(NOBODIES, UNAUTHENTICATED)
    expected |= dict(zip(SOMEBODIES, (TABLE | SEARCH_TABLE)[route.rpc], strict=True))
    spec = spec_from_proto(_SPEC, Defaults(Sampler.GRID, 1))
    found = {}
    async with open_site(guarded.surface) as client:
        for caller, header in guarded.headers.items():
            owner = "another" if caller == "operator on another's" else "olga"
            run = await guarded.surface.supervisor.create(
                RunRequest("mnist"), owner=owner, config_hash="", key=None, fingerprint=""
            )
            if route.rpc in ("StopRun", "SaveCheckpoint"):
                await guarded.surface.supervisor.move(run, RunState.RUNNING)
            if route.path.endswith("/resume"):
                await guarded.surface.supervisor.move(run, RunState.STOPPED)
            folder = guarded.surface.folder_of(run)
            (folder / "checkpoints" / "1").mkdir(parents=True)
            (folder / "log.txt").write_text("x")
            search_id = ""
            if "{search_id}" in route.path:
                search = await guarded.surface.searches.create(spec, owner=owner, idempotency=None)
                search_id = search.id
            if route.rpc == "DeleteSearch":
                await guarded.surface.searches.stop(search_id, with_trials=True)
                async for _ in guarded.surface.searches.watch(search_id, 0):
                    pass
            path = route.path.format(
                run_id=run.id, name="mnist", path="log.txt", search_id=search_id
            )
            if route.path.endswith("/curves"):
                path += f"?runs={run.id}&metrics=*"
            bodies: dict[str, dict[str, Any]] = {
                "UpdateRun": {"name": "new"},
                "CreateSearch": {"spec": to_json(_SPEC)},
                "UpdateSearch": {"budget": {"parallel": 2}},
                "EnqueueTrials": {"points": [{"params": {"epochs": 2}}]},
            }
            body = bodies.get(route.rpc, {})
            if route.path.endswith("/fork"):
                body = {"step": 1}
            elif route.rpc in ("CreateRun", "PlanRun"):
                body = {"experiment": "mnist"}
            headers = {"Authorization": header} if header else {}
            json_body = body if route.verb == "POST" else None
            async with client.request(
                route.verb, path, headers=headers, json=json_body
            ) as response:
                found[caller] = response.status
    assert found == {caller: statuses[code] for caller, code in expected.items()}


def _search_request(method: str, search_id: str) -> bytes:
    """Return a request about a search that an admin is answered OK to."""
    fields: dict[str, dict[str, Any]] = {
        "CreateSearch": {"spec": _SPEC},
        "ListSearches": {},
        "UpdateSearch": {
            "search_id": search_id,
            "budget": {"parallel": 2},
            "update_mask": {"paths": ["budget.parallel"]},
        },
        "EnqueueTrials": {
            "search_id": search_id,
            "points": [{"params": {"epochs": Value(int_value=2)}}],
        },
    }
    message_class = getattr(search_service_pb2, f"{method}Request")
    message = message_class(**fields.get(method, {"search_id": search_id}))
    data: bytes = message.SerializeToString()
    return data


@pytest.mark.parametrize("method", sorted(SEARCH_TABLE))
async def test_each_caller_gets_what_the_table_says_of_searches(
    guarded: Guarded, method: str
) -> None:
    expected = dict.fromkeys(NOBODIES, UNAUTHENTICATED)
    expected |= dict(zip(SOMEBODIES, SEARCH_TABLE[method], strict=True))
    spec = spec_from_proto(_SPEC, Defaults(Sampler.GRID, 1))
    found = {}
    for caller in expected:
        owner = "another" if caller == "operator on another's" else "olga"
        record = await guarded.surface.searches.create(spec, owner=owner, idempotency=None)
        if method == "DeleteSearch":
            await guarded.surface.searches.stop(record.id, with_trials=True)
            async for _ in guarded.surface.searches.watch(record.id, 0):
                pass
        request = _search_request(method, record.id)
        found[caller] = await guarded.code_of(
            _SEARCH.methods_by_name[method], request, guarded.headers[caller]
        )
    assert found == expected


@pytest.mark.parametrize(
    ("service", "table"), [(_TRAINING, TABLE), (_SEARCH, SEARCH_TABLE)], ids=["training", "search"]
)
def test_every_rpc_is_in_the_table_and_has_a_role(service: Any, table: dict[str, Any]) -> None:
    methods = service.methods_by_name
    assert set(table) == set(methods)
    assert all(ROLES.get(f"/{service.full_name}/{method}") is not None for method in methods)


def test_the_docs_have_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    rows, whole = {}, TABLE | SEARCH_TABLE
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("| ").split("|")]
        if cells[0] in whole:
            rows[cells[0]] = tuple(cells[1:])
    assert rows == {method: (UNAUTHENTICATED, *codes) for method, codes in whole.items()}


async def test_a_run_belongs_to_who_created_it(guarded: Guarded) -> None:
    stub, header = guarded.surface.stub, guarded.headers["operator on own"]
    metadata = (("authorization", header),)
    response = await stub.CreateRun(pb.CreateRunRequest(experiment="mnist"), metadata=metadata)
    assert response.run.owner == "olga"
    info = await stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=metadata)
    assert (info.principal, info.role) == ("olga", "operator")


async def test_keys_of_different_principals_do_not_meet(guarded: Guarded) -> None:
    request = pb.CreateRunRequest(experiment="mnist", idempotency_key="k")
    ids = set()
    for caller in ("operator on own", "admin"):
        metadata = (("authorization", guarded.headers[caller]),)
        ids.add((await guarded.surface.stub.CreateRun(request, metadata=metadata)).run.id)
    assert len(ids) == 2


async def test_a_revoked_token_ends_a_stream_of_metrics(guarded: Guarded) -> None:
    token = guarded.file.create("vick", Role.VIEWER)
    metadata = (("authorization", f"Bearer {token}"),)
    stream = guarded.surface.stub.WatchMetrics(pb.WatchMetricsRequest(), metadata=metadata)
    await stream.read()
    guarded.file.revoke(token.split("_")[1])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async with asyncio.timeout(60):
            await _read_to_the_end(stream)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_new_token_works_and_a_revoked_one_ends_a_stream_without_a_restart(
    guarded: Guarded,
) -> None:
    token = guarded.file.create("nora", Role.OPERATOR)
    metadata = (("authorization", f"Bearer {token}"),)
    stub = guarded.surface.stub
    run = (await stub.CreateRun(pb.CreateRunRequest(experiment="mnist"), metadata=metadata)).run
    stream = stub.WatchRun(pb.WatchRunRequest(run_id=run.id), metadata=metadata)
    await stream.read()
    guarded.file.revoke(token.split("_")[1])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _read_to_the_end(stream)  # heartbeats, until the revocation is noticed
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert await guarded.code("GetRun", run.id, f"Bearer {token}") == UNAUTHENTICATED


async def test_a_damaged_token_file_keeps_those_that_were_read(guarded: Guarded) -> None:
    (guarded.surface.home / "tokens.json").write_text("{")
    assert await guarded.code("ListRuns", "", guarded.headers["admin"]) == OK


async def test_probes_need_no_token_and_reflection_does(guarded: Guarded) -> None:
    health = health_pb2_grpc.HealthStub(guarded.surface.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(guarded.surface.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    codes = []
    for caller in ("none", "viewer"):
        metadata = (("authorization", guarded.headers[caller]),)
        call = reflection.ServerReflectionInfo(iter([request]), metadata=metadata)
        try:
            codes.append((await call.read()).WhichOneof("message_response"))
        except grpc.aio.AioRpcError as error:
            codes.append(error.code().name)
        call.cancel()
    assert codes == [UNAUTHENTICATED, "list_services_response"]


def test_the_file_holds_no_secret_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = TokenFile(path).create("ada", Role.ADMIN)
    assert token.split("_", 2)[2] not in path.read_text()
    assert json.loads(path.read_text())["tokens"][0]["name"] == "ada"
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("admin", "god"),
        lambda text: re.sub(r'"sha256": "[0-9a-f]+",', "", text),
    ],
)
def test_a_file_of_something_else_fails_at_start(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    from lab_core.errors import SettingsError

    path = tmp_path / "tokens.json"
    TokenFile(path).create("ada", Role.ADMIN)
    path.write_text(damage(path.read_text()))
    with pytest.raises(SettingsError, match="is not a token file of `lab-server tokens`"):
        Tokens(path)
