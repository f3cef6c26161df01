"""Tables and charts that fit a screen, and a hint where they go on behind its edge."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from lab_client import Client, choice, log_uniform
from tests.browser.conftest import PHONE, Windows
from tests.servers import RealServer

# keeps what the page draws with uPlot
KEEP_PLOTS = """window.plots = [];
let made;
Object.defineProperty(window, "uPlot", {get: () => made, set: (uPlot) => {
  made = new Proxy(uPlot, {construct(plot, given) {
    window.plots.push(new plot(...given));
    return window.plots.at(-1);
  }});
}});"""


def test_a_table_has_a_shadow_at_an_edge_behind_which_it_goes_on(
    lab: RealServer, client: Client, windows: Windows
) -> None:
    space = {"steps": choice(3, 4, 5), "step_s": log_uniform(1e-6, 1e-3)}
    search = client.search("counting", space, minimize="loss", max_trials=12)
    search.wait()
    page = windows.open(
        f"{lab.http_url}/searches/{search.id}", viewport=PHONE, color_scheme="light"
    )
    page.get_by_role("columnheader", name="importance").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "no scrolling to the side"

    trials = page.get_by_role("region", name="Table: trials")
    trials.scroll_into_view_if_needed()
    assert is_dark_at_its_edges(trials) == (False, True)
    trials.evaluate("table => { table.scrollLeft = 60; }")
    assert is_dark_at_its_edges(trials) == (True, True)
    trials.evaluate("table => { table.scrollLeft = table.scrollWidth; }")
    assert is_dark_at_its_edges(trials) == (True, False)
    assert is_dark_at_its_edges(page.get_by_role("region", name="Table: space")) == (False, False)


def test_a_metric_that_is_always_zero_is_drawn_in_the_middle_between_one_and_minus_one(
    lab: RealServer, client: Client, windows: Windows, steer: Callable[..., str]
) -> None:
    run = client.create("steered", {"file": steer(0, 0), "loop_count": 5}).start()
    run.wait()
    window = windows.window()
    window.add_init_script(KEEP_PLOTS)
    page = windows.open(f"{lab.http_url}/runs/{run.id}", window=window)
    page.locator("figure.chart[data-metric=loss] canvas").wait_for()
    ranges = page.evaluate("plots.map(({scales}) => [scales.y.min, scales.y.max])")
    assert [-1, 1] in ranges
    assert [0, 2] in ranges, "odd is always 1"


def is_dark_at_its_edges(region: Any) -> tuple[bool, bool]:
    """Return whether a table's region is darker than its page at its left and at its right edge."""
    picture = np.asarray(Image.open(io.BytesIO(region.screenshot())).convert("L"))
    below_the_text = picture[-6]
    return bool(below_the_text[1] < 240), bool(below_the_text[-2] < 240)
