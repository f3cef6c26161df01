"""Records which code an attempt runs, and where: in the run's folder, its record and its log.

In a thread of its own, beside the training: git may take long in a large repository. It begins a moment after
the training, whose first metrics would wait for the processor.
"""

from __future__ import annotations

import threading
import time
import traceback
from pathlib import Path

from lab_core._threads import show_thread_name
from lab_core.experiment import Experiment
from lab_core.provenance import Code, GitState, is_installed, read_environment, read_git
from lab_server.files.run_folder import RunFolder
from lab_server.messages import events
from lab_server.messages.provenance import provenance_to_proto
from lab_server.model.launch import LaunchSpec
from lab_server.trainer.outbox import Outbox

_DELAY_S = 0.5


class ProvenanceRecorder:
    """Records an attempt's provenance once; `finish` returns when that is done.

    Args:
        code: what the attempt runs; None if that could not even be imported.
        experiment: the run, whose record is completed.
    """

    def __init__(
        self, spec: LaunchSpec, code: Code | None, experiment: Experiment, outbox: Outbox
    ) -> None:
        self._spec = spec
        self._code = code
        self._experiment = experiment
        self._outbox = outbox
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lab-provenance", daemon=True)

    def start(self) -> None:
        """Begin, and return at once."""
        self._thread.start()

    def finish(self) -> None:
        """Wait for the end; git has a bound of its own."""
        self._is_ending.set()
        self._thread.join()

    def _run(self) -> None:
        show_thread_name()
        if self._code is None:
            return
        self._is_ending.wait(_DELAY_S)
        try:
            self._tell_other_code(self._code)
            self._record(self._code)
        except Exception:  # no reason to end the training
            print("which code this run is could not be recorded:", flush=True)  # noqa: T201
            traceback.print_exc()

    def _tell_other_code(self, code: Code) -> None:
        before = self._spec.code_digest
        if not before or before == code.digest:
            return
        old = RunFolder(self._spec.folder).code(before)
        changed = [
            file.path for file in code.files if _bytes_of(old / file.path) != file.data
        ] + _removed(old, code)
        print(  # noqa: T201 - this is the run's log
            f"warning: attempt {self._spec.attempt} runs other code than the run began with: "
            f"{', '.join(sorted(changed)) or code.module} changed; "
            f"what it began with is in {old.relative_to(self._spec.folder)}",
            flush=True,
        )

    def _record(self, code: Code) -> None:
        folder = RunFolder(self._spec.folder)
        place = folder.code(code.digest)
        _copy(code, place)
        # what a client sent is in no repository
        git = None if self._spec.upload else _git_of(code)
        environment = read_environment(self._spec.device)
        self._experiment.note_provenance(code, git, environment)
        where = str(place.relative_to(folder.path)) if code.files else ""
        message = provenance_to_proto(code, git, environment, where)
        self._outbox.send([events.encode_provenance(self._spec.attempt, time.time_ns(), message)])


def _copy(code: Code, folder: Path) -> None:
    for file in code.files:
        target = folder / file.path
        if not target.exists():  # an earlier attempt ran the same
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)


def _git_of(code: Code) -> GitState | None:
    """Return the repository of the experiment; one around an installed package is not its own."""
    if not code.path or is_installed(code.path):
        return None
    return read_git(Path(code.path).parent, [file.location for file in code.files])


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _removed(old: Path, code: Code) -> list[str]:
    now = {file.path for file in code.files}
    before = (str(path.relative_to(old)) for path in old.rglob("*") if path.is_file())
    return [path for path in before if path not in now]
