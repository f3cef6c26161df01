"""Values of the server that have some behaviour."""

from __future__ import annotations

import dataclasses

import pytest

from lab_server.model.run import Run, RunRequest, RunState

RUN = Run("r1", RunRequest("mnist"), step=3, metrics={"loss": 0.5})


def test_a_changed_run_is_what_replacing_its_attributes_gives() -> None:
    changes = {"state": RunState.RUNNING, "last_seq": 4, "home": "h"}
    assert RUN.changed(**changes) == dataclasses.replace(RUN, **changes)  # type: ignore[arg-type]
    assert RUN.changed() == RUN


def test_a_run_has_no_other_attributes() -> None:
    with pytest.raises(KeyError, match="stat"):
        RUN.changed(stat=RunState.RUNNING)
