"""Calls about code that the client has: it is sent only when the server does not have it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import TypeAlias, TypeVar

from lab_client.errors import UploadNotFound
from lab_client.protocol.calls import CallSequence, Operation
from lab_client.runs import SentCode
from lab_client.uploads.bundle import Bundle, collect, is_code
from lab_rpc import uploads as rules
from lab_rpc.v1 import training_service_pb2 as pb
from lab_rpc.v1 import upload_pb2

T = TypeVar("T")
ExperimentSource: TypeAlias = "str | os.PathLike[str] | ModuleType | Bundle | SentCode"
"""An experiment's name, or code with an experiment: a path, a module, collected code, or that of a run."""


def as_source(source: ExperimentSource) -> str | Bundle | SentCode:
    """Return an experiment's name, or its code, collected once for several calls."""
    if isinstance(source, Bundle | SentCode) or (isinstance(source, str) and not is_code(source)):
        return source
    return collect(source)


def send(bundle: Bundle) -> Operation[str]:
    """Send code and return its id."""
    return Operation(
        "UploadCode", lambda: partial(_requests, bundle), lambda answer: str(answer.upload_id)
    )


def with_code(
    source: ExperimentSource, make: Callable[[str, str], Operation[T]]
) -> CallSequence[T]:
    """Make a call about an experiment, after sending its code if the server does not know it.

    Args:
        source: the experiment.
        make: returns the call for the experiment's name and the id of its code, either of which may be "".
    """
    found = as_source(source)
    answer: T
    if isinstance(found, str):
        answer = yield make(found, "")
        return answer
    if isinstance(found, SentCode):
        answer = yield make(found.experiment, found.upload_id)
        return answer
    operation = make(found.experiment, found.id)
    try:
        answer = yield operation
    except UploadNotFound:
        yield send(found)
        answer = yield operation
    return answer


def _requests(bundle: Bundle) -> Iterator[pb.UploadCodeRequest]:
    files = [
        upload_pb2.UploadFile(path=path, size_bytes=len(data), sha256=bundle.hashes[path])
        for path, data in bundle.files.items()
    ]
    manifest = upload_pb2.UploadManifest(module=bundle.module, files=files)
    yield pb.UploadCodeRequest(manifest=manifest)
    data = b"".join(bundle.files.values())
    for start in range(0, len(data), rules.CHUNK_BYTES):
        yield pb.UploadCodeRequest(data=data[start : start + rules.CHUNK_BYTES])
