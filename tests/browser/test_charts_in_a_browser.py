"""Charts in a real browser: drawn, zoomed, read as tables, and live."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lab_client
from tests.browser.axe import violations
from tests.browser.conftest import PHONE, Windows
from tests.browser.shown import Shown
from tests.servers import RealServer

pytestmark = pytest.mark.slow


def chart_with_table(page: Any) -> Any:
    """Return the chart of the loss when it is drawn, with its table open."""
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    chart.locator("summary").press("Enter")
    return chart


def zoom_in(chart: Any) -> None:
    """Zoom into a chart, and wait until what it asked for is drawn."""
    chart.get_by_role("button", name="Zoom in").press("Enter")
    drawn(chart)


def drawn(chart: Any) -> None:
    """Wait until what a chart asked for is drawn."""
    chart.locator(":scope:not([aria-busy])").wait_for()


def test_charts_are_drawn_zoomed_and_read_as_a_table(shown: Shown, windows: Windows) -> None:
    page = windows.open(shown.address("/compare?runs={first}&runs={nasty}"))
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    assert "steps=30: from 1 to" in chart.locator(".plot").get_attribute("aria-label")
    chart.locator("summary").press("Enter")
    rows = chart.locator("tbody tr")
    rows.nth(59).wait_for()
    assert rows.count() == 60
    assert rows.nth(1).inner_text().split() == ["1", "0.5", "0.5"]

    plot = chart.locator(".u-over")
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 60, steps=4)
    page.mouse.up()
    whole = chart.get_by_role("button", name="Whole range")
    whole.wait_for()
    drawn(chart)
    assert int(chart.locator("tbody th").first.inner_text()) > 20
    whole.click()
    rows.nth(59).wait_for()


def test_a_chart_fits_a_narrower_window_without_an_answer_of_the_server(
    shown: Shown, windows: Windows
) -> None:
    page = windows.open(shown.address("/runs/{first}"))
    page.locator(".uplot canvas").first.wait_for()
    page.route("**/curves?*", lambda _: None)
    page.set_viewport_size(PHONE)
    page.wait_for_function(
        """() => {
             const place = document.querySelector(".plot");
             return place.clientWidth < 390 && place.firstChild.offsetWidth === place.clientWidth;
           }"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "no scrolling to the side"


def test_charts_are_zoomed_by_keyboard_and_say_what_they_show(
    shown: Shown, windows: Windows
) -> None:
    page = windows.open(shown.address("/runs/{nasty}"))
    chart = chart_with_table(page)
    steps = chart.locator("tbody th")
    steps.nth(59).wait_for()
    told = chart.get_by_role("status")

    zoom_in(chart)
    assert told.inner_text() == "shows step 14.75 to step 44.25"
    assert steps.all_inner_texts() == [str(step) for step in range(15, 46)]
    page.keyboard.press("ArrowRight")
    drawn(chart)
    assert steps.all_inner_texts() == [str(step) for step in range(30, 60)]
    page.keyboard.press("+")
    drawn(chart)
    assert steps.all_inner_texts() == [str(step) for step in range(37, 53)]
    assert violations(page) == []
    chart.get_by_role("button", name="Whole range").press("Enter")
    steps.nth(59).wait_for()
    assert told.inner_text() == "shows the whole range"
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Zoom in", "the focus is not lost with the button"


def test_what_is_not_finite_is_a_gap_and_is_counted(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(1, 0), "loop_count": 12}).start()
    run.wait()
    page = windows.open(f"{lab.http_url}/runs/{run.id}")
    chart = page.locator("figure.chart[data-metric=odd]")
    chart.locator(".note", has_text="1 NaN or infinite").wait_for()
    chart.locator("summary").press("Enter")
    steps = chart.locator("tbody th")
    steps.nth(10).wait_for()
    assert steps.all_inner_texts() == [str(step) for step in range(1, 13) if step != 7]


def test_a_watched_run_is_asked_for_what_changes_and_a_zoomed_chart_when_its_part_does(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(1, 0.05), "loop_count": 100_000}).start()
    page = windows.open(f"{lab.http_url}/runs/{run.id}")
    chart = chart_with_table(page)
    steps = chart.locator("tbody th")
    steps.nth(7).wait_for()
    zoom_in(chart)
    shown = steps.all_inner_texts()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    for path in (f"{run.id}/now", "/curves?", "/curves?"):
        with page.expect_request(lambda asked, path=path: path in asked.url):
            pass
    assert not [url for url in sent if "min=" in url], "its part is as it was"
    assert not [url for url in sent if url.endswith(run.id)], "nor is the whole page asked for"

    # anew from the first step: the part that is shown is taken back, and measured again on another level
    run.stop().wait(check=False)
    steer(2, 0.05)
    run.resume()
    values = chart.locator("tbody td")
    page.wait_for_function(
        "() => [...document.querySelectorAll('figure.chart[data-metric=loss] tbody td')]"
        ".every(cell => cell.textContent === '2')"
    )
    values.nth(len(shown) - 1).wait_for()
    assert steps.all_inner_texts() == shown
    run.stop()


def test_a_chart_stays_as_it_is_zoomed_while_a_run_that_begins_anew_has_measured_nothing(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    file = Path(steer(1, 0.05))
    run = client.create("steered", {"file": str(file), "loop_count": 100_000}).start()
    page = windows.open(f"{lab.http_url}/runs/{run.id}")
    chart = chart_with_table(page)
    chart.locator("tbody th").nth(7).wait_for()
    chart.get_by_role("button", name="Zoom in").press("Enter")
    run.stop().wait(check=False)
    file.unlink()
    os.mkfifo(file)  # the trainer waits for who writes it
    run.resume()
    page.locator("#last-values[hidden]").wait_for(state="attached")
    assert chart.get_by_role("button", name="Whole range").is_visible()
    with file.open("w") as held:
        steer(2, 0.05)
        held.write("2 0.05")
    chart.locator("tbody td").get_by_text("2", exact=True).first.wait_for()
    run.stop()


def test_a_zoomed_chart_shows_what_comes_of_a_run_that_is_behind(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    ahead = client.create("steered", {"file": steer(1, 0), "loop_count": 40}).start()
    ahead.wait()
    behind = client.create("steered", {"file": steer(1, 0), "loop_count": 40})
    page = windows.open(f"{lab.http_url}/compare?runs={ahead.id}&runs={behind.id}")
    chart = chart_with_table(page)
    chart.locator("tbody th").nth(39).wait_for()
    zoom_in(chart)
    page.locator("#live:not(.lost)").get_by_text("live", exact=True).wait_for()
    assert chart.locator("thead th").count() == 2, "x, and the run that has begun"
    behind.start().wait()
    chart.locator("thead th").nth(2).wait_for()


def test_charts_ask_again_after_an_answer_that_failed(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(1, 0.05), "loop_count": 150}).start()
    page = windows.open(f"{lab.http_url}/runs/{run.id}")
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    page.route(
        "**/curves?*", lambda route: route.fulfill(status=503, json={"error": {"message": ""}})
    )
    steer(1, 0)
    page.locator("#status .state.completed").wait_for()
    page.wait_for_timeout(
        3000
    )  # what the last event made it ask for has failed, and no event comes any more
    page.unroute("**/curves?*")
    chart.locator("summary").press("Enter")
    chart.locator("tbody th").get_by_text("150", exact=True).wait_for()


def test_charts_over_time_and_epochs_ask_again_when_it_can_be_seen(
    shown: Shown, windows: Windows
) -> None:
    page = windows.open(shown.address("/runs/{first}"))
    asked = page.evaluate(
        """async () => {
             const { Board } = await import(document.querySelector("script[type=module]").src.replace("run.js", "charts.js"));
             const board = new Board(document.createElement("div"));
             board.runs = ["a"];
             let num = 0;
             board.refresh = () => { num += 1; };
             const asks = (x, range, steps) => {
               Object.assign(board, { x, isBehind: false, askedAt: performance.now() });
               board.figures.set("loss", { zoom: { all: { min: 0, max: range } } });
               board.steps.set("a", 1000);
               num = 0;
               board.note([{ id: "a", kinds: ["metrics"], state: "RUNNING", step: 1000 + steps, last_seq: 9 }]);
               return num;
             };
             return {
               relative: [asks("relative", 3600, 5), asks("relative", 0, 5)],
               wall: [asks("wall", 3600, 5), asks("wall", 0, 5)],
               epoch: [asks("epoch", 10, 1), asks("epoch", 10, 3)],
               step: [asks("step", 1000, 1), asks("step", 1000, 3)],
             };
           }"""
    )
    assert asked == {axis: [0, 1] for axis in ("relative", "wall", "epoch", "step")}
