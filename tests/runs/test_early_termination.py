"""A SIGTERM that comes before a trainer has a loop to tell ends it at its first step all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab_core.experiment import RunRecord, Status
from lab_server.files.run_folder import RunFolder
from lab_server.model.launch import EXIT_INTERRUPTED

EXPERIMENT = """
from lab_core import loop
from lab_core.configs import BaseConfigs

class Configs(BaseConfigs):
    def run(self):
        for step in loop.loop(10):
            print("step", step)
"""

TRAINER = """
import os, signal, sys
from pathlib import Path
from lab_server.model.launch import LaunchSpec
from lab_server.trainer import train
from lab_server.trainer.registry import find
from lab_server.trainer.snapshot import Snapshot

class Outbox(train.Outbox):
    def __init__(self, folder, attempt):
        super().__init__(folder, attempt)
        os.kill(os.getpid(), signal.SIGTERM)

train.Outbox = Outbox
spec = LaunchSpec("r1", 1, Path(sys.argv[1]), "short", {}, (), (), (), "", (), "", "cpu", 1)
sys.exit(train.train(spec, find([sys.argv[2]], Snapshot(), has_entry_points=False)["short"]))
"""


def test_a_trainer_that_is_told_to_end_as_it_begins_does_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    experiment = tmp_path / "short.py"
    experiment.write_text(EXPERIMENT)
    arguments = [sys.executable, "-c", TRAINER, str(folder.path), str(experiment)]
    done = subprocess.run(arguments, timeout=120, check=False)
    assert done.returncode == EXIT_INTERRUPTED
    assert "step 1\n" not in folder.log.read_text()
    assert RunRecord.load(folder.path).status is Status.STOPPED
