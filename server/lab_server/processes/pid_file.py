"""The file that identifies an attempt's trainer, so that any later server finds it."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from lab_server.descriptors import raise_if_blind
from lab_server.model.run import TrainerProcess


def write_pid_file(path: Path, process: TrainerProcess) -> bool:
    """Write which process it is, atomically; return False when another process has written it before."""
    content = {
        "pid": process.pid,
        "start_ticks": process.start_ticks,
        "boot_id": boot_id(),
        "folder_inode": path.parent.stat().st_ino,
        **({"agent": process.agent} if process.agent else {}),
    }
    draft = path.with_name(f".{path.name}-{process.pid}")
    draft.write_text(json.dumps(content))
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def read_pid_file(path: Path) -> TrainerProcess | None:
    """Return the process that a pid file names; None without one.

    None also when it is of an earlier boot, or in a copy of the folder, restored from a backup, say: then
    the process is not this folder's. One on an agent's machine has another boot, of which the agent knows.

    Raises:
        OSError: If there is no file descriptor to look with.
    """
    try:
        found = json.loads(path.read_text())
        agent = str(found.get("agent", ""))
        process = TrainerProcess(int(found["pid"]), int(found["start_ticks"]), agent)
        is_ours = bool(agent) or (found["boot_id"], found["folder_inode"]) == (
            boot_id(),
            path.parent.stat().st_ino,
        )
    except OSError as error:
        raise_if_blind(error)
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return process if is_ours else None


@cache
def boot_id() -> str:
    """Return the id of this boot: pids and start times are comparable only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise_if_blind(error)
        return ""
