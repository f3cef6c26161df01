"""What became of a run: its states, checkpoints and resumptions, from its log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lab_rpc.v1 import event_pb2
from lab_server.messages.events import decode
from lab_server.store import Store

_KINDS: Final = frozenset({"state", "truncate", "checkpoint"})
_READ_BYTES: Final = 1 << 20
_MAX_ENTRIES: Final = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened to a run.

    Attributes:
        time_s: Unix seconds.
        what: "RUNNING", "checkpoint", "resumed", ...
        text: why, or where.
        traceback: of an error of the experiment.
    """

    time_s: float
    attempt: int
    what: str
    text: str
    traceback: str = ""


class Timeline:
    """Reads what became of runs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, run_id: str) -> list[Entry]:
        """Return the last entries of a run's log, oldest first."""
        entries: list[Entry] = []
        seq = 0
        while events := await self._store.events(run_id, seq, _READ_BYTES, _KINDS):
            entries += [_entry(decode(event.payload)) for event in events]
            entries = entries[-_MAX_ENTRIES:]
            seq = events[-1].seq
        return entries


def _entry(event: event_pb2.RunEvent) -> Entry:
    time_s = event.time_unix_ns / 1e9
    match event.WhichOneof("kind"):
        case "state":
            change = event.state
            name = event_pb2.RunState.Name(change.state).removeprefix("RUN_STATE_")
            return Entry(time_s, event.attempt, name, change.reason, change.traceback)
        case "checkpoint":
            saved = event.checkpoint
            text = f"step {saved.step}" + (f", damaged: {saved.damage}" if saved.damage else "")
            return Entry(time_s, event.attempt, "checkpoint", text)
        case _:
            truncate = event.truncate
            is_anew = not truncate.HasField("checkpoint_step")
            text = (
                "anew, from the first step" if is_anew else f"from step {truncate.checkpoint_step}"
            )
            return Entry(time_s, event.attempt, "resumed", text)
