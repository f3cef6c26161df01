"""Writing, finding and reading checkpoint folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_core.checkpoints._plain import decode, encode
from lab_core.errors import CheckpointError

_FORMAT = 2
_MANIFEST = "manifest.json"
_SUFFIX = ".pt"
_OLD = ".old"
_NUM_READS = 5  # of one that is rewritten while it is read


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        step: the global step at which it was taken.
        path: its folder.
        metrics: the last value of each scalar when it was taken.
    """

    step: int
    path: Path
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)


def save(
    folder: Path,
    step: int,
    states: Mapping[str, object],
    metrics: Mapping[str, float] | None = None,
) -> Checkpoint:
    """Write a checkpoint, durable when this returns; one of the same step is replaced.

    Args:
        folder: the run's ``checkpoints`` folder.
        step: the global step.
        states: a state dict, or other plain data and tensors, for each file to write.
        metrics: the last value of each scalar.

    Raises:
        CheckpointError: If it cannot be written, or a state has something that could not be read back;
            what was there before still is.
    """
    target = folder / str(step)
    draft = folder / f".{step}-{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_by_a_crash in folder.glob(".*.tmp"):
            shutil.rmtree(left_by_a_crash, ignore_errors=True)
        draft.mkdir()
        hashes = {f"{name}{_SUFFIX}": _write(draft, name, state) for name, state in states.items()}
        manifest = {
            "format": _FORMAT,
            "step": step,
            "files": hashes,
            "metrics": {name: float(value) for name, value in (metrics or {}).items()},
        }
        _write_synced(draft / _MANIFEST, json.dumps(manifest, indent=1).encode())
        _sync_folder(draft)
        _replace(draft, target)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(f"cannot write the checkpoint {target}: {error}") from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Checkpoint(step, target, manifest["metrics"])  # type: ignore[arg-type] # built above


def load(path: Path) -> dict[str, Any]:
    """Return the states of a checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: If it is missing, incomplete, or not as it was written.
    """
    for _ in range(_NUM_READS):
        before = _inode(path)
        try:
            states = _load(path)
        except (CheckpointError, FileNotFoundError) as error:
            if _inode(path) == before:
                raise CheckpointError(str(error)) from error
        else:
            if _inode(path) == before:
                return states
    raise CheckpointError(f"the checkpoint {path} is rewritten again and again; try once more")


def _inode(path: Path) -> int | None:
    """Return what differs after a checkpoint was replaced by one of the same step."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _load(path: Path) -> dict[str, Any]:
    import torch

    verify(path)
    states = {}
    for file in sorted(path.glob(f"*{_SUFFIX}")):
        try:
            states[file.stem] = decode(torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:
            # torch raises whatever the reader stumbled over
            raise CheckpointError(f"cannot read {file}: {error}") from error
    return states


def verify(path: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        CheckpointError: If the checkpoint is missing, incomplete, or not as it was written.
    """
    if not path.is_dir():
        raise CheckpointError(f"there is no checkpoint at {path}")
    files = _read_manifest(path)["files"]
    present = {file.name for file in path.glob(f"*{_SUFFIX}")}
    if present != set(files):
        different = ", ".join(sorted(present ^ set(files)))
        raise CheckpointError(f"the checkpoint {path} is damaged: missing or foreign: {different}")
    for name, expected in files.items():
        try:
            with (path / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"cannot read {path / name}: {error}") from error
        if found != expected:
            raise CheckpointError(
                f"the checkpoint {path} is damaged: {name} is not as it was written"
            )


def list_checkpoints(folder: Path) -> tuple[Checkpoint, ...]:
    """Return the checkpoints under a run's ``checkpoints`` folder by step, unchecked."""
    if not folder.is_dir():
        return ()
    found = []
    plain = [path for path in folder.iterdir() if path.name.isdecimal()]
    for path in (*plain, *_left_aside(folder)):
        if path.is_dir():
            step = path.name.removeprefix(".").partition("-")[0]
            try:
                metrics = _read_manifest(path)["metrics"]
            except CheckpointError:
                metrics = {}  # listed still: whoever loads it is told what is wrong
            found.append(Checkpoint(int(step), path, metrics))
    return tuple(sorted(found))


def _left_aside(folder: Path) -> list[Path]:
    """Return checkpoints that a crash came in the middle of replacing: they are all there is."""
    return [
        path
        for path in folder.glob(f".*-*{_OLD}")
        if not exists(folder, int(path.name[1:].partition("-")[0]))
    ]


def exists(folder: Path, step: int) -> bool:
    """Whether there is a checkpoint of this step."""
    return (folder / str(step)).is_dir()


def find(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step.

    Raises:
        CheckpointError: If there is none; the message names those that are there.
    """
    found = list_checkpoints(folder)
    for checkpoint in found:
        if checkpoint.step == step:
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in found) or "none"
    raise CheckpointError(f"no checkpoint of step {step} in {folder}; there is: {steps}")


def latest_good(folder: Path) -> tuple[Checkpoint | None, tuple[Checkpoint, ...]]:
    """Return the newest undamaged checkpoint, and the damaged ones that are newer, newest first."""
    damaged = []
    for checkpoint in reversed(list_checkpoints(folder)):
        try:
            verify(checkpoint.path)
        except CheckpointError:
            damaged.append(checkpoint)
        else:
            return checkpoint, tuple(damaged)
    return None, tuple(damaged)


def remove_after(folder: Path, step: int) -> None:
    """Remove the checkpoints of what is trained again from a step on: newer by step, they would be kept instead."""
    for checkpoint in list_checkpoints(folder):
        if checkpoint.step > step:
            shutil.rmtree(checkpoint.path)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise CheckpointError(f"the checkpoint {path} is of a format this version cannot read")
    is_whole = isinstance(manifest.get("files"), dict) and isinstance(manifest.get("metrics"), dict)
    if not is_whole:
        raise CheckpointError(f"the checkpoint {path} is damaged: its manifest is not whole")
    return manifest


def _write(folder: Path, name: str, state: object) -> str:
    """Write one state and return the sha256 of its file."""
    import io

    import torch

    path = folder / f"{name}{_SUFFIX}"
    buffer = io.BytesIO()
    try:
        torch.save(encode(state, name), buffer)
    except (CheckpointError, OSError):
        raise
    except Exception as error:
        # pickle raises TypeError, AttributeError, RuntimeError, ... for what it does not know
        raise CheckpointError(f"the state of {name!r} cannot be saved: {error}") from error
    data = buffer.getbuffer()
    _write_synced(path, data)
    try:
        # mapped, so that no tensor is read: this is about what they are, the hash about their bytes
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise CheckpointError(
            f"the state of {name!r} could not be read back: {' '.join(str(error).split())[:300]}"
        ) from error
    return hashlib.sha256(data).hexdigest()


def _write_synced(path: Path, data: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(draft: Path, target: Path) -> None:
    if target.exists():
        old = target.with_name(f".{target.name}-{os.getpid()}{_OLD}")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(target)
    for left_by_a_crash in target.parent.glob(f".{target.name}-*{_OLD}"):
        shutil.rmtree(left_by_a_crash, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
