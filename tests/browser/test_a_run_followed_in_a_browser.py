"""One page from a run's start to its end: through a restart of the server, a stop, a resume, and on to a fork."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lab_client
from tests.browser.conftest import WAIT_S, Windows
from tests.servers import start_server

pytestmark = pytest.mark.slow

COUNT = 150


def _table(page: Any) -> dict[int, float]:
    """Return the losses that the page's chart has, by step; each step once."""
    lines = page.locator("figure.chart[data-metric=loss] tbody tr").all_inner_texts()
    steps = [int(line.split()[0]) for line in lines]
    assert steps == sorted(set(steps)), "nothing twice"
    return {step: float(line.split()[1]) for step, line in zip(steps, lines, strict=True)}


def _wait_for_step(page: Any, step: int) -> None:
    page.wait_for_function(
        """least => {
          const steps = document.querySelectorAll("figure.chart[data-metric=loss] tbody th");
          return steps.length && Number(steps[steps.length - 1].textContent) >= least;
        }""",
        arg=step,
    )


def test_a_run_is_followed_through_a_restart_a_resume_and_a_fork(
    tmp_path: Path, windows: Windows, steer: Callable[..., str]
) -> None:
    experiments = str(Path(__file__).with_name("steered.py"))
    arguments = ("--experiments", experiments, "--on-shutdown", "leave")
    server = start_server(tmp_path / "home", *arguments)
    with lab_client.Client(server.address, timeout_s=WAIT_S) as client:
        run = client.create("steered", {"file": steer(1, 0.1), "loop_count": COUNT}).start()
    page = windows.open(f"{server.http_url}/runs/{run.id}")
    page.locator("#status .state.running").wait_for()
    page.locator("figure.chart[data-metric=loss] summary").press("Enter")
    _wait_for_step(page, 3)
    page.locator("#last-values summary").wait_for()

    steer(1, 2)  # it trains while there is no server, however long that is
    server.stop()
    page.locator("#live.lost").get_by_text("not live: connecting again").wait_for()
    http = server.http_url.removeprefix("http://")
    again = start_server(tmp_path / "home", *arguments, "--http", http)
    try:
        page.locator("#live:not(.lost)").get_by_text("live", exact=True).wait_for()
        steer(1, 0.1)
        with lab_client.Client(again.address, timeout_s=WAIT_S) as client:
            saved = client.run(run.id).save_checkpoint()
        _wait_for_step(page, saved + 3)

        # what comes after the checkpoint is cut, and measured again on another level
        page.get_by_role("button", name="Stop", exact=True).click()
        page.locator("#status .state.stopped").wait_for()
        page.locator("figure.chart[data-metric=loss] summary").press("Enter")
        _wait_for_step(page, saved + 3)
        assert set(_table(page).values()) == {1.0}
        steer(2, 0)
        page.get_by_role("button", name=f"Resume at step {saved}").click()
        page.locator("#status .state.completed").wait_for()
        page.locator("figure.chart[data-metric=loss] summary").press("Enter")
        _wait_for_step(page, COUNT)
        cut = {step: 1.0 if step <= saved else 2.0 for step in range(1, COUNT + 1)}
        assert _table(page) == cut

        steer(3, 0)
        page.locator("li", has_text=f"step {saved},").get_by_role("link").click()
        page.get_by_label("Name").fill("the fork")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("heading", name="the fork").wait_for()
        assert run.id in page.locator("dl.facts").inner_text()
        page.locator("#status .state.completed").wait_for()
        page.locator("figure.chart[data-metric=loss] summary").press("Enter")
        _wait_for_step(page, COUNT)
        forked = _table(page)
        assert {step: v for step, v in forked.items() if step > saved} == dict.fromkeys(
            range(saved + 1, COUNT + 1), 3.0
        )
        page.goto(f"{again.http_url}/runs/{run.id}")
        page.locator("figure.chart[data-metric=loss] summary").press("Enter")
        _wait_for_step(page, COUNT)
        assert _table(page) == cut, "the parent is as it was"
    finally:
        again.stop()
