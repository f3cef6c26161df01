"""Every page in a real browser: for everybody to use, and nothing against its content policy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.axe import violations
from tests.browser.conftest import PHONE, Windows
from tests.browser.shown import EVIL, Shown

pytestmark = pytest.mark.slow

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


def test_tensorboard_opens_behind_the_page(shown: Shown, windows: Windows) -> None:
    page = windows.open(shown.address("/runs/{first}"))
    page.get_by_role("button", name="TensorBoard").click()
    page.wait_for_url("**/tensorboard/*/**")
    page.get_by_text(f"first-{shown.first}").first.wait_for()
    page.get_by_text("loss").first.wait_for()


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
