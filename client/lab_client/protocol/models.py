"""Which of a run's files is its model: that of its newest checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lab_client.errors import ArtifactNotFound, CheckpointNotFound
from lab_client.runs import Artifact

_FILE: Final = re.compile(r"checkpoints/(\d+)/([^/]+)\.pt")
_STATE: Final = "_run"  # what is not a model's: random states, the loader's place


def model_path(run_id: str, artifacts: Iterable[Artifact], name: str) -> str:
    """Return the path of a model, or optimizer, in the newest checkpoint among a run's files.

    Args:
        run_id: the run.
        artifacts: its files.
        name: of the config item.

    Raises:
        CheckpointNotFound: If the run has no checkpoint.
        ArtifactNotFound: If there is no such model; the message names those that are there.
    """
    found = [match for item in artifacts if (match := _FILE.fullmatch(item.path))]
    if not found:
        raise CheckpointNotFound(
            f"run {run_id} has no checkpoint, so there is no model; a run saves one at its end, unless it "
            f"is run with --no-final-checkpoint or has no models, and when asked: lab checkpoint {run_id}",
            run_id,
        )
    newest = max(int(match[1]) for match in found)
    paths = {match[2]: match[0] for match in found if int(match[1]) == newest}
    if name not in paths:
        names = ", ".join(sorted(paths.keys() - {_STATE})) or "none"
        raise ArtifactNotFound(
            f"the checkpoint of step {newest} of run {run_id} has no {name!r}; it has: {names}",
            name,
        )
    return paths[name]
