"""Live pages in a real browser: what changes shows, is asked for once, and is said to a screen reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lab_client
from lab_client import choice
from tests.browser.conftest import Windows
from tests.servers import RealServer

pytestmark = pytest.mark.slow


ASLEEP = """
let isAsleep = false;
Object.defineProperty(document, "hidden", {get: () => isAsleep});
window.sleeps = (is) => { isAsleep = is; document.dispatchEvent(new Event("visibilitychange")); };
"""


def test_eight_tabs_share_one_stream_and_one_that_slept_sees_all_when_it_wakes(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    window = windows.window()
    window.add_init_script(ASLEEP)
    streams: list[str] = []
    window.on("request", lambda sent: streams.append(sent.url) if "/events" in sent.url else None)
    run = client.create("steered", {"file": steer(1, 1), "loop_count": 150}).start()
    tabs = [windows.open(f"{lab.http_url}/runs/{run.id}", window=window) for _ in range(8)]
    for tab in tabs:
        tab.locator("#status .state.running").wait_for()
    last_text = tabs[-1].locator("#log")
    last_text.get_by_text("line 1\n").wait_for()
    tabs[-1].evaluate("sleeps(true)")
    steer(1, 0)
    for tab in tabs[:-1]:
        tab.locator("#status .state.completed").wait_for()
        tab.locator("#log", has_text="line 150").wait_for()
    assert "line 150" not in last_text.inner_text()
    tabs[-1].evaluate("sleeps(false)")
    tabs[-1].locator("#status .state.completed").wait_for()
    tabs[-1].locator("#log", has_text="line 150").wait_for()
    lines = [line for line in last_text.inner_text().splitlines() if line.startswith("line ")]
    assert lines == [f"line {step}" for step in range(1, 151)]
    assert len(streams) == 1


def test_searches_are_live_to_their_end(
    lab: RealServer, client: lab_client.Client, windows: Windows
) -> None:
    page = windows.open(f"{lab.http_url}/searches")
    page.locator("#live").get_by_text("live", exact=True).wait_for()
    search = client.search(
        "counting", {"steps": choice(3, 4)}, minimize="loss", max_trials=2, name="appears"
    )
    link = page.get_by_role("link", name="appears")
    link.wait_for()
    other = windows.open(f"{lab.http_url}/searches/{search.id}")
    search.wait()
    page.locator("tr", has=link).locator(".state.completed").wait_for()
    other.locator("#status .state.completed").wait_for()
    with other.expect_event("dialog") as asked:  # a button that came later asks, too
        other.once("dialog", lambda dialog: dialog.dismiss())
        other.get_by_role("button", name="Delete").click()
    assert asked.value.message == "Delete this search? Its runs stay."
    other.get_by_role("heading", name="appears").wait_for()


HEARS_MEDIA = """
window.heardMedia = new Promise(resolve => {
  new BroadcastChannel("lab-events").onmessage = ({ data }) => {
    if (data.changes?.some(change => change.kinds.includes("media"))) resolve();
  };
});
"""


def test_what_changes_while_a_page_is_asked_for_is_asked_for_after_it(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(1, 0.05), "loop_count": 100_000}).start()
    address = f"{lab.http_url}/runs/{run.id}"
    windows.open(address).locator("#charts canvas").first.wait_for()  # it has measured something
    window = windows.window()
    held: list[tuple[Any, Any]] = []

    def hold(route: Any) -> None:
        if held or route.request.is_navigation_request():
            route.continue_()
        else:
            held.append((route, route.fetch()))

    window.route(address, hold)
    page = windows.open(address, window=window)
    page.evaluate(HEARS_MEDIA + "; 0")
    newest = page.locator("figure.chart[data-metric=loss] tbody tr:last-child td")
    page.locator("figure.chart[data-metric=loss] summary").press("Enter")
    while not held:
        page.wait_for_timeout(50)
    for level in (-1, 1):  # a text in between, of which the answer that is held knows nothing
        steer(level, 0.05)
        newest.get_by_text(str(level), exact=True).wait_for()
    page.evaluate("heardMedia")
    assert not page.locator("#media").count()
    route, answer = held[0]
    route.fulfill(response=answer)
    page.locator("#media").wait_for()
    run.stop()


def test_a_comparison_follows_runs_that_begin_and_end(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    runs = [
        client.create("steered", {"file": steer(1, 0.05), "loop_count": count})
        for count in (60, 61)
    ]
    page = windows.open(f"{lab.http_url}/compare?runs={runs[0].id}&runs={runs[1].id}")
    page.get_by_text("Nothing measured yet.").wait_for()
    page.locator("#live").get_by_text("live", exact=True).wait_for()
    for run in runs:
        run.start()
    page.locator("figure.chart[data-metric=loss] canvas").wait_for()
    page.locator("#legend .state.completed").nth(1).wait_for()
    assert page.locator("#legend svg").count() == 2
    assert page.get_by_role("row", name="loss 1 1", exact=True).count() == 1
    assert not page.get_by_text("Nothing measured yet.").is_visible()


def test_a_screen_reader_tells_charts_apart_and_a_new_state_and_not_on_every_page_that_it_is_live(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(1, 0.05), "loop_count": 100_000}).start()
    next(iter(run.metrics()))  # its next state comes when it ends
    page = windows.open(f"{lab.http_url}/runs/{run.id}")
    chart = page.get_by_role("figure", name="loss", exact=True)
    chart.locator("canvas").wait_for()
    chart.get_by_role("group", name="Zoom of loss", exact=True).wait_for()
    label = page.get_by_role("img", name="loss over step").get_attribute("aria-label")
    assert label == "loss over step. from 1 to 1"
    chart.get_by_text("Show data of loss", exact=True).press("Enter")
    assert chart.get_by_role("columnheader").all_inner_texts() == ["step", "loss"]
    live = page.locator("#live")
    live.get_by_text("live", exact=True).wait_for()
    assert live.get_attribute("aria-live") == "off"
    told = page.locator("#told")
    assert (told.get_attribute("role"), told.inner_text()) == ("status", "")
    run.stop().wait(check=False)
    told.get_by_text("The run is stopped.").wait_for()


def test_a_screen_reader_says_that_a_search_is_in_another_state(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    space = {"file": steer(1, 0.05), "loop_count": choice(100_000, 100_001)}
    search = client.search("steered", space, minimize="loss", max_trials=2)
    page = windows.open(f"{lab.http_url}/searches/{search.id}")
    page.locator("#live").get_by_text("live", exact=True).wait_for()
    page.locator("#status .state.running").wait_for()
    search.stop()
    page.locator("#told[role=status]").get_by_text("The search is stopped.").wait_for()


def test_a_section_that_is_as_it_was_is_not_told_again(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    page = windows.open(f"{lab.http_url}/server")
    page.locator("#live").get_by_text("live", exact=True).wait_for()
    page.evaluate("window.kept = ['leader', 'gpus'].map(id => document.getElementById(id))")
    run = client.create("steered", {"file": steer(1, 0.05), "loop_count": 100_000}).start()
    page.locator("#slots").get_by_text("of 100000").wait_for()
    assert page.evaluate("kept.every(section => section.isConnected)")
    run.stop()


def test_a_page_catches_up_with_what_happened_before_it_was_live(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    window = windows.window()
    held: list[Any] = []
    window.route("**/api/v1/events*", lambda route: held.append(route))
    run = client.create("steered", {"file": steer(1, 0.1)}).start()
    pages = [
        windows.open(f"{lab.http_url}/{path}", window=window) for path in ("", f"runs/{run.id}")
    ]
    steer(1, 0)
    run.wait()
    assert pages[1].locator("#status .state.completed").count() == 0
    held[0].continue_()
    pages[0].locator(f"#run-{run.id} .state.completed").wait_for()
    pages[1].locator("#status .state.completed").wait_for()
