"""Which processes belong to a trainer: its session, its descendants, and whoever carries its marker."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab_server.descriptors import raise_if_blind
from lab_server.model.run import TrainerProcess
from lab_server.processes.proc import ProcessStat, all_processes, stat

MARKER = "LAB_TRAINER"
"""Environment variable, in a trainer and whatever it starts: "PID/START_TICKS" of the trainer."""
MARKER_LENGTH = 48

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def marker(process: TrainerProcess) -> str:
    """Return the value of MARKER in a trainer's environment."""
    return f"{process.pid}/{process.start_ticks}"


def members(process: TrainerProcess) -> tuple[ProcessStat, ...]:
    """Return every living process of a trainer, itself included.

    A member is in the trainer's session or group, descends from it, or carries its marker: the last
    finds also what detached itself and outlived the trainer.
    """
    everyone = {found.pid: found for found in all_processes() if found.is_alive}
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

    Far cheaper than `members`, but misses processes that left the session: for gauges, not for killing.
    """
    by_session: dict[int, list[ProcessStat]] = {trainer.pid: [] for trainer in trainers}
    for process in all_processes(frozenset(by_session)) if by_session else ():
        if process.is_alive:
            by_session[process.session].append(process)
    return {
        trainer: by_session[trainer.pid]
        for trainer in trainers
        if any(_is_leader(trainer, member) for member in by_session[trainer.pid])
    }


def _is_leader(trainer: TrainerProcess, found: ProcessStat) -> bool:
    return found.pid == trainer.pid and found.start_ticks == trainer.start_ticks


def members_or_dying(
    process: TrainerProcess, killed: Mapping[int, ProcessStat]
) -> tuple[ProcessStat, ...]:
    """Return the members, and those of the killed that have not exited yet.

    A dying process first loses the memory that has its marker, and exists for some milliseconds more.
    """
    found = {member.pid: member for member in members(process)}
    for pid, before in killed.items():
        now = stat(pid)
        if now is not None and now.is_alive and now.start_ticks == before.start_ticks:
            found[pid] = now
    return tuple(found.values())


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
    except OSError as error:
        raise_if_blind(error)
        return False
    return entry in environment.split(b"\0")


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere kill() finds less
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
