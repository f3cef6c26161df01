"""Every page in a real browser: for everybody to use, live, and nothing against its content policy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lab_client
from lab_client import choice
from tests.browser.axe import violations
from tests.browser.conftest import PHONE, Windows
from tests.servers import RealServer

pytestmark = pytest.mark.slow

EVIL = '<img src=x onerror="window.evil=1">\u202egnp'


@dataclass
class Shown:
    """What the module's server has to show."""

    url: str
    first: str
    nasty: str
    failed: str
    painted: str
    long: str
    created: str
    search: str

    def address(self, path: str) -> str:
        """Return the URL of a path with names in braces."""
        return self.url + path.format_map(vars(self))


@pytest.fixture(scope="module")
def shown(lab: RealServer, client: lab_client.Client) -> Shown:
    """Runs that ended, one that failed, one with a nasty name, and a search."""
    runs = [
        client.create("counting", {"steps": 30}, name="first").start(),
        client.create("counting", {"steps": 60}, name=EVIL, tags=[EVIL]).start(),
        client.create("raises").start(),
        client.create("painted").start(),
        client.create("counting", {"steps": 3}, name="a long name " * 16).start(),
    ]
    created = client.create("counting", {"steps": 4}, tags=["never started"])
    search = client.search("counting", {"steps": choice(3, 4)}, minimize="loss", max_trials=2)
    for run in runs:
        with contextlib.suppress(lab_client.errors.RunFailed):
            run.wait()
    search.wait()
    first, nasty, failed, painted, long = (run.id for run in runs)
    return Shown(lab.http_url, first, nasty, failed, painted, long, created.id, search.id)


PAGES = (
    "/",
    "/?group=steps",
    "/?group=nothing",
    "/?q=loss+<",
    "/?tag=nothing",
    "/runs/{first}",
    "/runs/{created}",
    "/runs/{failed}",
    "/runs/{painted}",
    "/runs/{painted}/media",
    "/compare?runs={first}&runs={nasty}",
    "/compare?runs={long}&runs={first}",
    "/compare",
    "/new",
    "/new?experiment=counting",
    "/searches",
    "/searches/{search}",
    "/server",
    "/nothing",
)


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_in_either_theme_or_size(
    shown: Shown, windows: Windows, path: str
) -> None:
    page = windows.open(shown.address(path))
    if "compare?" in path:
        page.locator(".uplot canvas").first.wait_for()
    if path == "/runs/{painted}":
        page.locator("#media img").first.wait_for()
    assert violations(page) == []
    page.locator("#theme").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert violations(page, ["color-contrast"]) == []
    page.set_viewport_size(PHONE)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "no scrolling to the side"


def test_a_phone_shows_how_far_runs_are_and_a_long_name_hides_no_other(
    shown: Shown, windows: Windows
) -> None:
    page = windows.open(shown.address("/"), viewport=PHONE)
    box = page.locator(f"#run-{shown.first} .progress").bounding_box()
    assert box["x"] + box["width"] <= PHONE["width"]
    page = windows.open(shown.address("/compare?runs={long}&runs={first}"))
    page.locator(".uplot canvas").first.wait_for()
    table = page.get_by_role("region", name="Table: what differs")
    assert table.evaluate("region => region.scrollWidth - region.clientWidth") <= 0


def test_what_is_not_there_is_said(shown: Shown, windows: Windows) -> None:
    page = windows.open(shown.address("/?tag=nothing"))
    page.get_by_text("No runs match").wait_for()
    assert page.get_by_role("button", name="Delete").count() == 0, "there is nothing to select"
    page = windows.open(shown.address("/?group=nothing"))
    page.get_by_text("None of the runs has a config nothing.").wait_for()
    page = windows.open(shown.address("/runs/{created}"))
    log = page.locator("#log").evaluate("log => getComputedStyle(log, '::before').content")
    assert log == '"Nothing yet."'
    page = windows.open(shown.address("/new?experiment=counting"))
    page.get_by_role("button", name="Check").click()
    page.get_by_text("Every config has its default.").wait_for()


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
    chart.locator(":scope:not([aria-busy])").wait_for()
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
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    chart.locator("summary").press("Enter")
    steps = chart.locator("tbody th")
    steps.nth(59).wait_for()
    told = chart.get_by_role("status")

    chart.get_by_role("button", name="Zoom in").press("Enter")
    chart.locator(":scope:not([aria-busy])").wait_for()
    assert told.inner_text() == "shows step 14.75 to step 44.25"
    assert steps.all_inner_texts() == [str(step) for step in range(15, 46)]
    page.keyboard.press("ArrowRight")
    chart.locator(":scope:not([aria-busy])").wait_for()
    assert steps.all_inner_texts() == [str(step) for step in range(30, 60)]
    page.keyboard.press("+")
    chart.locator(":scope:not([aria-busy])").wait_for()
    assert steps.all_inner_texts() == [str(step) for step in range(37, 53)]
    assert violations(page) == []
    chart.get_by_role("button", name="Whole range").press("Enter")
    steps.nth(59).wait_for()
    assert told.inner_text() == "shows the whole range"
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Zoom in", "the focus is not lost with the button"


def test_a_slider_goes_over_the_steps_of_images_and_texts(shown: Shown, windows: Windows) -> None:
    page = windows.open(shown.address("/runs/{painted}"))
    media = page.locator("#media")
    media.get_by_text("note of step 3").wait_for()
    pictures = media.get_by_role("img", name="samples, step 3")
    assert pictures.count() == 4
    widths = "images => images.map(image => image.naturalWidth)"
    page.wait_for_function(
        "() => [...document.querySelectorAll('#media img')].every(i => i.complete)"
    )
    assert pictures.evaluate_all(widths) == [28] * 4
    slider = media.get_by_role("slider")
    slider.press("ArrowLeft")
    media.get_by_text("note of step 2").wait_for()
    assert media.get_by_role("img", name="samples, step 2").count() == 4
    media.get_by_role("img", name="weights: 1000 numbers").wait_for()
    slider.press("End")
    media.get_by_text("note of step 3").wait_for()
    assert page.evaluate("document.activeElement.type") == "range", "the slider keeps the focus"


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


@pytest.mark.parametrize("path", ["/", "/runs/{nasty}", "/compare?runs={first}&runs={nasty}"])
def test_a_nasty_name_is_shown_and_does_nothing(shown: Shown, windows: Windows, path: str) -> None:
    page = windows.open(shown.address(path))
    assert page.get_by_text(EVIL).count() > 0
    assert page.evaluate("window.evil") is None
    assert page.locator("img[src=x]").count() == 0


def test_runs_are_chosen_sorted_and_compared_by_keyboard(shown: Shown, windows: Windows) -> None:
    page = windows.open(shown.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    page.get_by_role("link", name="step", exact=True).press("Enter")
    page.locator("th[aria-sort=descending]", has_text="step").wait_for()
    for run_id in (shown.first, shown.nasty):
        page.locator(f"#run-{run_id} input").press("Space")
    page.get_by_text("2 selected:").wait_for()
    page.get_by_role("button", name="Compare").press("Enter")
    page.get_by_role("heading", name="2 runs compared").wait_for()
    page.go_back()
    page.get_by_text("2 selected:").wait_for()


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


def test_a_search_is_asked_for_again_a_while_after_a_change(shown: Shown, windows: Windows) -> None:
    address = shown.address("/searches/{search}")
    page = windows.open(address)
    page.locator("#live").get_by_text("live", exact=True).wait_for()
    page.wait_for_timeout(4000)  # what it asks for when it begins to be live is answered
    change = {"id": shown.first, "kinds": ["state"], "state": "COMPLETED", "step": 1, "last_seq": 9}
    with page.expect_request(address):
        page.evaluate(
            "change => new BroadcastChannel('lab-events').postMessage({kind: 'changes', changes: [change]})",
            change,
        )
    with page.expect_request(address):
        pass


def test_a_watched_run_is_asked_for_what_changes_and_a_zoomed_chart_when_its_part_does(
    client: lab_client.Client, lab: RealServer, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(1, 0.05), "loop_count": 100_000}).start()
    page = windows.open(f"{lab.http_url}/runs/{run.id}")
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    chart.locator("summary").press("Enter")
    steps = chart.locator("tbody th")
    steps.nth(7).wait_for()
    chart.get_by_role("button", name="Zoom in").press("Enter")
    chart.locator(":scope:not([aria-busy])").wait_for()
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
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    chart.locator("summary").press("Enter")
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
    chart = page.locator("figure.chart[data-metric=loss]")
    chart.locator("canvas").wait_for()
    chart.locator("summary").press("Enter")
    chart.locator("tbody th").nth(39).wait_for()
    chart.get_by_role("button", name="Zoom in").press("Enter")
    chart.locator(":scope:not([aria-busy])").wait_for()
    page.locator("#live:not(.lost)").get_by_text("live", exact=True).wait_for()
    assert chart.locator("thead th").count() == 2, "x, and the run that has begun"
    behind.start().wait()
    chart.locator("thead th").nth(2).wait_for()


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


def test_a_phone_shows_several_columns_of_what_differs_and_whole_captions(
    shown: Shown, windows: Windows
) -> None:
    page = windows.open(shown.address("/compare?runs={first}&runs={nasty}"), viewport=PHONE)
    page.locator(".uplot canvas").first.wait_for()
    heads = page.get_by_role("region", name="Table: what differs").locator("thead th").all()
    assert [head.bounding_box()["x"] < PHONE["width"] - 40 for head in heads] == [True] * 3
    page = windows.open(shown.address("/?group=steps"), viewport=PHONE)
    box = page.get_by_text("Runs that are equal but for").bounding_box()
    assert box["x"] + box["width"] <= PHONE["width"]


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


def test_tensorboard_opens_behind_the_page(shown: Shown, windows: Windows) -> None:
    page = windows.open(shown.address("/runs/{first}"))
    page.get_by_role("button", name="TensorBoard").click()
    page.wait_for_url("**/tensorboard/*/**")
    page.get_by_text(f"first-{shown.first}").first.wait_for()
    page.get_by_text("loss").first.wait_for()


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


def test_without_javascript_the_tables_and_forms_are_there(shown: Shown, windows: Windows) -> None:
    page: Any = windows.open(shown.url, java_script_enabled=False)
    page.get_by_role("link", name="first").click()
    assert "step 20" in page.locator("#log").inner_text()
    page.get_by_role("link", name="Run again with changes").click()
    page.locator('input[name="c.steps"]').fill("-1")
    page.get_by_role("button", name="Start").click()
    assert "nothing was started" in page.locator("[role=alert]").inner_text()
    page.locator('input[name="c.steps"]').fill("3")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/*")
    page.locator("#status .state").wait_for()
