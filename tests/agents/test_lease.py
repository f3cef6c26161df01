"""Leases: over on the agent before they are over on the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab_server.agent.kept_lease import KeptLease
from lab_server.files.lease import Lease, now_s


@pytest.mark.parametrize("lease_s", [1.0, 10.0, 900.0])
def test_a_trainer_has_time_to_stop_and_is_dead_before_the_server_gives_it_up(
    lease_s: float,
) -> None:
    lease = Lease.from_ping(100.0, lease_s)
    assert 100.0 < lease.stop_at_s < lease.kill_at_s < 100.0 + lease_s
    assert lease.grace_s > 0


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    assert Lease.from_ping(100.0, 60.0).kill_at_s - Lease.from_ping(90.0, 60.0).kill_at_s == 10.0


def test_a_lease_is_read_as_it_was_written(tmp_path: Path) -> None:
    lease = Lease.from_ping(now_s(), 60.0)
    lease.write(tmp_path / "lease")
    assert Lease.read(tmp_path / "lease") == lease


@pytest.mark.parametrize("text", ["", "x y", "1"])
def test_what_is_no_lease_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "lease").write_text(text)
    assert Lease.read(tmp_path / "lease") is None
    assert Lease.read(tmp_path / "other") is None


def test_trainers_find_the_lease_of_an_agent_that_has_just_joined(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    Lease(0.0, 0.0).write(path)  # of its last life
    sent_s = now_s()
    KeptLease(path, on_over=lambda _: None).begin(sent_s, 60.0)
    assert Lease.read(path) == Lease.from_ping(sent_s, 60.0)
