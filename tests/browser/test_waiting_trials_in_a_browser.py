"""A search's page says which of its trials wait for a slot."""

from __future__ import annotations

from collections.abc import Callable

from lab_client import Client, choice
from tests.browser.conftest import Windows
from tests.servers import RealServer


def test_a_trial_that_waits_for_a_slot_is_shown_as_queued(
    lab: RealServer, client: Client, windows: Windows, steer: Callable[..., str]
) -> None:
    held = [client.create("steered", {"file": steer(1, 0.5)}).start() for _ in range(2)]
    search = client.search(
        "counting", {"steps": choice(3, 4)}, minimize="loss", max_trials=2, parallel=2
    )
    page = windows.open(f"{lab.http_url}/searches/{search.id}")
    page.locator("#trials .state.queued").nth(1).wait_for()
    page.locator("#status").get_by_text("2 queued").wait_for()
    assert "running" not in page.locator("#status p").first.inner_text().split("2 queued")[1]
    for run in held:
        run.stop()
    page.locator("#status").get_by_text("2 completed").wait_for()
    assert page.locator(".state.queued").count() == 0
