"""Processes as /proc tells of them: who lives, who belongs to a trainer, and how to end them all."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab_server.model.run import TrainerProcess

MARKER = "LAB_TRAINER"
"""Environment variable, in a trainer and whatever it starts: "PID/START_TICKS" of the trainer."""
MARKER_LENGTH = 48

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat says; field numbers as in proc(5)."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int
    cpu_ticks: int
    num_pages: int
    environ_start: int
    environ_end: int

    @property
    def is_alive(self) -> bool:
        """False for a zombie: it ended, only nobody has asked how."""
        return self.state not in "ZXx"


def stat(pid: int, in_sessions: Container[int] | None = None) -> ProcessStat | None:
    """Return what is known of a process, None when there is none, or in another session."""
    try:
        # not Path: it takes longer than the kernel
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096)
    except OSError:
        return None
    finally:
        os.close(fd)
    # The name stands in parentheses and may itself hold parentheses and blanks.
    fields = text[text.rindex(b")") + 2 :].split()
    session = int(fields[3])
    if in_sessions is not None and session not in in_sessions:
        return None
    return ProcessStat(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=session,
        start_ticks=int(fields[19]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        num_pages=int(fields[21]),
        environ_start=int(fields[47]),
        environ_end=int(fields[48]),
    )


def identify(pid: int) -> TrainerProcess | None:
    """Return the name of a process that a reused pid does not share."""
    found = stat(pid)
    return None if found is None else TrainerProcess(pid, found.start_ticks)


def is_alive(process: TrainerProcess) -> bool:
    """True while the process itself runs."""
    found = stat(process.pid)
    return found is not None and found.is_alive and found.start_ticks == process.start_ticks


def marker(process: TrainerProcess) -> str:
    """Return the value of MARKER in a trainer's environment."""
    return f"{process.pid}/{process.start_ticks}"


def members(process: TrainerProcess) -> tuple[ProcessStat, ...]:
    """Return every living process of a trainer, itself included.

    A member is in the trainer's session or group, descends from it, or carries its marker: the last
    finds also what detached itself and outlived the trainer.
    """
    everyone = {found.pid: found for found in _all() if found.is_alive}
    mine = f"{MARKER}={marker(process)}".encode()
    itself = everyone.get(process.pid)
    is_pid_ours = itself is None or itself.start_ticks == process.start_ticks
    chosen: set[int] = set()
    for found in everyone.values():
        if found.start_ticks < process.start_ticks:
            continue
        is_near = is_pid_ours and process.pid in (found.pid, found.session, found.group)
        if is_near or _carries(found.pid, mine):
            chosen.add(found.pid)
    grew = bool(chosen)
    while grew:
        children = {
            found.pid
            for found in everyone.values()
            if found.parent in chosen and found.pid not in chosen
        }
        chosen |= children
        grew = bool(children)
    return tuple(everyone[pid] for pid in sorted(chosen))


def sessions(trainers: Sequence[TrainerProcess]) -> dict[TrainerProcess, list[ProcessStat]]:
    """Return the living processes of each trainer's session, in one pass over all processes.

    Far cheaper than `members`, and misses what left the session: for gauges, not for killing.
    """
    by_session: dict[int, list[ProcessStat]] = {trainer.pid: [] for trainer in trainers}
    for process in _all(frozenset(by_session)) if by_session else ():
        if process.is_alive:
            by_session[process.session].append(process)
    return {
        trainer: by_session[trainer.pid]
        for trainer in trainers
        if any(_is(trainer, member) for member in by_session[trainer.pid])
    }


def _is(trainer: TrainerProcess, found: ProcessStat) -> bool:
    return found.pid == trainer.pid and found.start_ticks == trainer.start_ticks


def members_or_dying(
    process: TrainerProcess, killed: Mapping[int, ProcessStat]
) -> tuple[ProcessStat, ...]:
    """Return the members, and of those that were killed the ones that are not quite dead.

    A process that dies loses first the memory that has its marker, and lives on for some milliseconds.
    """
    found = {member.pid: member for member in members(process)}
    for pid, before in killed.items():
        now = stat(pid)
        if now is not None and now.is_alive and now.start_ticks == before.start_ticks:
            found[pid] = now
    return tuple(found.values())


def send_signal(found: ProcessStat, number: signal.Signals) -> None:
    """Signal exactly this process: a pidfd, checked, cannot meet a reused pid."""
    try:
        fd = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return
    try:
        now = stat(found.pid)
        if now is not None and now.start_ticks == found.start_ticks:
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def write_pid_file(path: Path, process: TrainerProcess) -> bool:
    """Say in a file who a process is; whole or not at all, and False when another has done so before."""
    content = {
        "pid": process.pid,
        "start_ticks": process.start_ticks,
        "boot_id": boot_id(),
        "folder_inode": path.parent.stat().st_ino,
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
    the process is not this folder's.
    """
    try:
        found = json.loads(path.read_text())
        process = TrainerProcess(int(found["pid"]), int(found["start_ticks"]))
        is_ours = (found["boot_id"], found["folder_inode"]) == (
            boot_id(),
            path.parent.stat().st_ino,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return process if is_ours else None


@cache
def boot_id() -> str:
    """Return what changes with every boot: pids and start times only count within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def become_subreaper() -> None:
    """Make orphans among the descendants children of this process, not of init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def write_marker(value: str) -> None:
    """Overwrite MARKER where the kernel reads this process's environment, for it and its forks.

    os.environ changes only what an exec passes on; /proc/PID/environ shows the memory in which the
    environment arrived. The variable must have been there, at least as long, when the process began.
    """
    os.environ[MARKER] = value
    me = stat(os.getpid())
    if me is None or me.environ_start == 0:
        return
    memory = ctypes.string_at(me.environ_start, me.environ_end - me.environ_start)
    at = memory.find(f"{MARKER}=".encode())
    if at < 0 or (at > 0 and memory[at - 1] != 0):
        return
    begin = at + len(MARKER) + 1
    room = memory.index(b"\0", begin) - begin
    if len(value) <= room:
        ctypes.memmove(me.environ_start + begin, value.encode().ljust(room, b"\0"), room)


def _carries(pid: int, entry: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return entry in environment.split(b"\0")


def _all(in_sessions: Container[int] | None = None) -> Iterator[ProcessStat]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = stat(int(name), in_sessions)
            if found is not None:
                yield found


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere kill() finds less
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
