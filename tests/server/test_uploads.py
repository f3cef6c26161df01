"""UploadCode: what is taken, what is refused, and who may run what was sent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lab_core.errors import SettingsError
from lab_rpc import uploads as rules
from lab_rpc.v1 import training_service_pb2, upload_pb2
from lab_server.errors import NotFound
from lab_server.files.uploads import UploadStore
from lab_server.model.roles import Role
from lab_server.model.upload import Upload
from lab_server.model.upload_manifest import Manifest, ManifestFile
from lab_server.security.tokens import TokenFile, Tokens
from lab_server.settings.loading import load
from tests.server.conftest import Surface, open_surface

pb = training_service_pb2
SINE = {"sine.py": b"x = 1\n", "data/table.csv": b"", "helper.py": b"y = 2\n"}


def manifest(
    files: dict[str, bytes], module: str = "sine", **sizes: int
) -> upload_pb2.UploadManifest:
    return upload_pb2.UploadManifest(
        module=module,
        files=[
            upload_pb2.UploadFile(
                path=path,
                size_bytes=sizes.get("size_bytes", len(data)),
                sha256=hashlib.sha256(data).hexdigest(),
            )
            for path, data in files.items()
        ],
    )


async def upload(surface: Surface, *parts: Any, token: str = "") -> str:
    async def requests() -> AsyncIterator[pb.UploadCodeRequest]:
        for part in parts:
            field = "data" if isinstance(part, bytes) else "manifest"
            yield pb.UploadCodeRequest(**{field: part})

    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    answer = await surface.stub.UploadCode(requests(), metadata=metadata)
    return str(answer.upload_id)


async def refused(surface: Surface, *parts: Any, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await upload(surface, *parts, **arguments)
    assert not list((surface.home / "uploads").glob("*"))
    return raised.value.code().name, raised.value.details() or ""


async def test_what_is_sent_is_kept_by_its_content(surface: Surface) -> None:
    # messages end anywhere
    upload_id = await upload(surface, manifest(SINE), b"x = ", b"1\ny", b" = 2\n")

    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in SINE.items()}
    assert upload_id == rules.upload_id("sine", hashes)
    folder = surface.home / "uploads" / upload_id
    found = {
        str(path.relative_to(folder / "files")): path.read_bytes()
        for path in folder.glob("files/**/*")
        if path.is_file()
    }
    assert found == SINE
    record = json.loads((folder / "upload.json").read_text())
    assert record["module"] == "sine"
    assert [sent["owner"] for sent in record["sent"]] == [""]
    assert await upload(surface, manifest(SINE), b"x = 1\ny = 2\n") == upload_id
    assert [path.name for path in (surface.home / "uploads").iterdir()] == [upload_id]


PATHS = {
    "/etc/passwd": "a path is relative",
    "../outside.py": "a path is relative",
    "a/../../outside.py": "a path is relative",
    "a//b.py": "a path is relative",
    "./sine2.py": "a path is relative",
    "a/": "a path is relative",
    "..": "a path is relative",
    "": "a path has 1 to 400 characters",
    "a" * 401: "a path has 1 to 400 characters",
    "a" * 201: "a name has at most 200 bytes",
    "a\\b.py": "no backslash",
    "a\0b.py": "no control characters",
    "a\nb.py": "no control characters",
    "a\u202eb.py": "no control characters",
    "lab_core/__init__.py": "lab_core is a package of lab-train",
    "lab_server.py": "lab_server is a package of lab-train",
    "lab_client/x.py": "lab_client is a package of lab-train",
    "lab_rpc/v1/x.py": "lab_rpc is a package of lab-train",
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path)[:30])
async def test_a_path_that_is_none_is_refused(surface: Surface, path: str) -> None:
    code, message = await refused(surface, manifest({"sine.py": b"", path: b""}))
    assert code == "INVALID_ARGUMENT"
    assert PATHS[path] in message


async def test_manifests_that_are_wrong_are_refused(surface: Surface) -> None:
    twice = manifest({"sine.py": b""})
    twice.files.add().CopyFrom(twice.files[0])
    unhashed = manifest({"sine.py": b""})
    unhashed.files[0].sha256 = "g" * 64
    many = {f"f{index}.py": b"" for index in range(rules.MAX_FILES + 1)}
    cases = [
        (manifest({}), "files must be between 1 and 1000, got 0"),
        (manifest(many), "files must be between 1 and 1000, got 1001"),
        (manifest({"sine.py": b""}, size_bytes=(16 << 20) + 1), "at most 16777216 bytes"),
        (manifest({"sine.py": b""}, size_bytes=2**64 - 1), "at most 16777216 bytes"),
        (manifest({"sine.py": b""}, "cosine"), "neither cosine.py nor cosine/__init__.py"),
        (manifest({"sine.py": b""}, "sine; x"), "it is not the name of a module"),
        (manifest({"sine.py": b""}, "..sine"), "it is not the name of a module"),
        (manifest({"sine.py": b""}, ""), "it is not the name of a module"),
        (twice, "'sine.py' is there 2 times"),
        (unhashed, "the SHA-256 of 'sine.py' is not 64 hexadecimal digits"),
        (manifest({"sine.py": b"", "a": b"", "a/b": b""}), "'a' is a file and a folder"),
        (manifest({"sine.py": b"", "a/b": b"", "a/b/c/d": b""}), "'a/b' is a file and a folder"),
    ]
    for sent, sentence in cases:
        code, message = await refused(surface, sent)
        assert code == "INVALID_ARGUMENT"
        assert sentence in message


async def test_bytes_that_are_not_those_announced_are_refused(surface: Surface) -> None:
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((), "the request has no message|the first message must be the manifest"),
        ((b"x = 1\n",), "the first message must be the manifest"),
        ((manifest(SINE), manifest(SINE)), "messages behind the first must have data"),
        ((manifest(SINE), b"x = 1\n"), "'helper.py' is not whole: 6 bytes are missing"),
        ((manifest(SINE), b"x = 1\ny = 2\nz"), "more bytes were sent than the manifest says"),
        ((manifest(SINE), b"x = 1\ny = 3\n"), "'helper.py' has another content than its SHA-256"),
    ]
    for parts, sentence in cases:
        code, message = await refused(surface, *parts)
        assert code == "INVALID_ARGUMENT"
        assert any(part in message for part in sentence.split("|")), message


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(surface: Surface) -> None:
    call = surface.stub.UploadCode()
    await call.write(pb.UploadCodeRequest(manifest=manifest(SINE)))
    await call.write(pb.UploadCodeRequest(data=b"x"))
    folder = surface.home / "uploads"
    while not list(folder.glob("draft-*")):  # the server is in the middle, too
        await call.write(pb.UploadCodeRequest(data=b""))
    call.cancel()
    # a later call is answered when the cancelled one is over
    while list(folder.glob("draft-*")):
        await surface.stub.GetServerInfo(pb.GetServerInfoRequest())


async def test_a_server_that_takes_no_code_says_who_may_change_that(tmp_path: Path) -> None:
    async with open_surface(tmp_path, allow_uploads=False) as surface:
        code, message = await refused(surface, manifest(SINE), b"x = 1\ny = 2\n")
        assert code == "PERMISSION_DENIED"
        assert "lab-server serve --allow-uploads" in message
        with pytest.raises(grpc.aio.AioRpcError, match="takes no code from clients"):
            await surface.stub.PlanRun(pb.PlanRunRequest(upload_id="a" * 64))


async def test_an_experiment_of_an_upload_is_shown_planned_and_created(surface: Surface) -> None:
    upload_id = await upload(surface, manifest(SINE), b"x = 1\ny = 2\n")

    shown = await surface.stub.GetExperiment(pb.GetExperimentRequest(upload_id=upload_id))
    planned = await surface.stub.PlanRun(pb.PlanRunRequest(upload_id=upload_id))
    created = await surface.stub.CreateRun(pb.CreateRunRequest(upload_id=upload_id))

    assert shown.experiment.name == planned.plan.experiment == created.run.experiment == "sent"
    assert created.run.name == "sent"
    assert created.run.upload_id == upload_id
    run = await surface.supervisor.get(created.run.id)
    assert run.request.upload == Upload(upload_id, "sine")
    (listed,) = (await surface.stub.ListRuns(pb.ListRunsRequest())).runs
    assert listed.upload_id == upload_id
    assert (await surface.store.get(run.id)).request.upload == Upload(upload_id, "sine")


async def test_of_several_experiments_one_must_be_named(surface: Surface) -> None:
    upload_id = await upload(surface, manifest(SINE), b"x = 1\ny = 2\n")
    surface.executor.sent = ("large", "small")

    named = pb.PlanRunRequest(upload_id=upload_id, experiment="small")
    assert (await surface.stub.PlanRun(named)).plan.experiment == "small"
    with pytest.raises(grpc.aio.AioRpcError, match="several experiments: large, small"):
        await surface.stub.PlanRun(pb.PlanRunRequest(upload_id=upload_id))
    with pytest.raises(grpc.aio.AioRpcError, match="the code that was sent has: large, small"):
        await surface.stub.PlanRun(pb.PlanRunRequest(upload_id=upload_id, experiment="tiny"))


@pytest.mark.parametrize("upload_id", ["a" * 64, "../../etc", "x", "A" * 64, "a" * 10_000])
async def test_an_unknown_upload_is_not_found(surface: Surface, upload_id: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="there is no upload") as raised:
        await surface.stub.PlanRun(pb.PlanRunRequest(upload_id=upload_id))
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_code_is_run_by_who_sent_it(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    olga, otto = file.create("olga", Role.OPERATOR), file.create("otto", Role.OPERATOR)
    vera, ada = file.create("vera", Role.VIEWER), file.create("ada", Role.ADMIN)
    async with open_surface(tmp_path, Tokens(tmp_path / "tokens.json")) as surface:
        upload_id = await upload(surface, manifest(SINE), b"x = 1\ny = 2\n", token=olga)

        async def plan(token: str) -> str:
            metadata = (("authorization", f"Bearer {token}"),)
            try:
                await surface.stub.PlanRun(
                    pb.PlanRunRequest(upload_id=upload_id), metadata=metadata
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        assert [await plan(token) for token in (olga, otto, vera, ada)] == [
            *("OK", "NOT_FOUND", "PERMISSION_DENIED", "OK")
        ]
        await upload(surface, manifest(SINE), b"x = 1\ny = 2\n", token=otto)
        assert await plan(otto) == "OK"
        record = json.loads((surface.home / "uploads" / upload_id / "upload.json").read_text())
        assert [sent["owner"] for sent in record["sent"]] == ["olga", "otto"]


# ---- the store


def sent(store: UploadStore, name: str) -> Upload:
    draft = store.folder / f"draft-{name}"
    (draft / "files").mkdir(parents=True)
    (draft / "files" / f"{name}.py").write_bytes(SINE["sine.py"])
    sha256 = hashlib.sha256(SINE["sine.py"]).hexdigest()
    files = (ManifestFile(f"{name}.py", len(SINE["sine.py"]), sha256),)
    return store.keep(draft, Manifest(name, files), "olga")


def test_uploads_that_no_run_uses_are_removed_after_a_day(tmp_path: Path) -> None:
    store = UploadStore(tmp_path / "uploads")
    unused, used, fresh = (sent(store, name) for name in ("unused", "used", "fresh"))
    (store.folder / "draft-left").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    store.note_run(used, "r1", run)
    store.note_run(unused, "r2", tmp_path / "deleted")
    yesterday = time.time() - 2 * 86400
    for upload_ in (unused, used):
        os.utime(store.folder / upload_.id / "upload.json", (yesterday, yesterday))
    os.utime(store.folder / "draft-left", (yesterday, yesterday))

    assert sorted(store.prune()) == sorted([unused.id, "draft-left"])

    assert store.find(used.id, "olga") == used
    assert store.find(fresh.id, None) == fresh
    run.rmdir()
    os.utime(store.folder / used.id / "upload.json", (yesterday, yesterday))
    assert store.prune() == [used.id]


def test_an_upload_that_an_earlier_version_kept_is_asked_for_again(tmp_path: Path) -> None:
    store = UploadStore(tmp_path / "uploads")
    upload_ = sent(store, "old")
    record = store.folder / upload_.id / "upload.json"
    old = json.loads(record.read_text())
    del old["files"]
    record.write_text(json.dumps(old))
    with pytest.raises(NotFound, match="send the code first"):
        store.find(upload_.id, "olga")
    shutil.rmtree(store.folder / "draft-old", ignore_errors=True)
    assert sent(store, "old") == upload_
    assert store.find(upload_.id, "olga") == upload_
    assert store.is_whole(upload_)


def test_uploads_without_tokens_stay_on_this_machine(tmp_path: Path) -> None:
    assert load({"allow_uploads": True}).settings.allow_uploads
    assert not load({}).settings.allow_uploads
    with pytest.raises(SettingsError, match="allow_uploads lets whoever reaches"):
        load({"allow_uploads": True, "grpc": "0.0.0.0:1", "insecure": True})
    tokens = tmp_path / "tokens.json"
    load({"allow_uploads": True, "grpc": "0.0.0.0:1", "insecure": True, "tokens": tokens})
