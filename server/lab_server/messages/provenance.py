"""Which code a run is made with, and where, as a message."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from lab_rpc.v1 import provenance_pb2
from lab_server.messages import wire

if TYPE_CHECKING:
    from lab_core.provenance import Code, Environment, GitState

_MAX_SUBJECT_CHARS = 500


def provenance_to_proto(
    code: Code, git: GitState | None, environment: Environment, folder: str
) -> provenance_pb2.Provenance:
    """Return what is known of an attempt's code.

    Args:
        code: its files.
        git: the repository around them, None without one.
        environment: versions and machine.
        folder: where copies of the files are, below the run's folder; "" for nowhere.
    """
    text = wire.text_of
    return provenance_pb2.Provenance(
        module=text(code.module),
        class_name=text(code.name),
        path=text(code.path),
        digest=code.digest,
        files=[
            provenance_pb2.SourceFile(path=text(file.path), sha256=file.sha256)
            for file in code.files
        ],
        num_left_out=code.num_left_out,
        folder=folder,
        git=None if git is None else _git_to_proto(git, code),
        environment=provenance_pb2.Environment(
            **{name: text(value) for name, value in asdict(environment).items()}
        ),
    )


def _git_to_proto(git: GitState, code: Code) -> provenance_pb2.GitState:
    untracked = frozenset(git.untracked)
    return provenance_pb2.GitState(
        commit=git.commit,
        subject=wire.text_of(git.message, _MAX_SUBJECT_CHARS),
        branch=wire.text_of(git.branch),
        is_dirty=git.is_dirty,
        untracked=[
            wire.text_of(file.path) for file in code.files if str(file.location) in untracked
        ],
    )
