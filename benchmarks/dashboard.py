"""What the dashboard costs in a real browser: first paint, comparing and zooming, and pages that watch.

    python benchmarks/dashboard.py [--runs 2000] [--metrics 2000] [--points 1000000] [--only PART]

Needs Debian's chromium, and playwright. The browser shares the machine's cores with the server; from when pages
watch on it has the lowest priority (SCHED_IDLE), and a row of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from live_server import LiveServer
from processes import cpu_s
from stores import append, copy_to_all, make_events
from table import Row, at_most, markdown
from watched_training import browser_cpu_s, cost_to_training, idle_browser

from lab_client import Client
from lab_server.model.run import Run, RunRequest, RunState
from lab_server.store import SqlStore
from lab_server.watch.history_writer import HistoryWriter

ROUNDS = 5
NUM_COMPARED = 50
WATCHED = 4
WATCH_S = 10.0
WATCH_ROUNDS = 3
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
PARTS = ("paint", "compare", "watch", "training")
EXPERIMENT = Path(__file__).with_name("watched_experiment.py")

# the rows may be there before they are painted
PAINT = """() => new Promise((done) => new PerformanceObserver((found) => {
  for (const paint of found.getEntriesByName("first-contentful-paint")) done(paint.startTime);
}).observe({type: "paint", buffered: true}))"""

# notes the milliseconds from the end of a drag until a chart is drawn anew, with the points of its zoom
ARM = """(figure) => {
  let began = NaN;
  document.addEventListener("mouseup", () => { began = performance.now(); }, {capture: true, once: true});
  window.zoomed = new Promise((done) => {
    new MutationObserver(() => {
      if (figure.hasAttribute("aria-busy")) return;
      requestAnimationFrame(() => done(performance.now() - began));
    }).observe(figure, {attributes: true, attributeFilter: ["aria-busy"]});
  });
}"""


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """Start a headless chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sys.exit("there is no chromium; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


async def fill_with_metrics(home: Path, num_runs: int, num_metrics: int) -> None:
    """Make a home with runs of many metrics."""
    store = SqlStore(f"sqlite:///{home / 'lab.db'}")
    metrics = {f"layer{i // 10}.metric{i % 10}": i / 7 for i in range(num_metrics - 1)} | {
        "loss": 0.1
    }
    for index in range(num_runs):
        request = RunRequest("mnist", overrides={"rate": index * 1e-3}, name=f"run {index}")
        await store.create(
            Run(
                f"20261123-{index:06}-abcdef01",
                request,
                state=RunState.COMPLETED,
                metrics=metrics,
                extremes={name: (0.0, value) for name, value in metrics.items()},
                create_time_ns=1_763_000_000_000_000_000 + index * 10**9,
            ),
            None,
        )
    await store.close()


async def fill_with_points(home: Path, num_runs: int, num_points: int) -> list[str]:
    """Make a home with runs of many points; return their ids."""
    store = SqlStore(f"sqlite:///{home / 'lab.db'}")
    runs = [
        Run(
            f"20261123-{index:06}-abcdef01",
            RunRequest("mnist", overrides={"rate": index * 1e-3}),
            state=RunState.COMPLETED,
            metrics={"train_loss": 0.1, "accuracy": 0.9},
        )
        for index in range(num_runs)
    ]
    first = await store.create(runs[0], None)
    await append(store, first, make_events(num_points, 2), 10_000)
    await HistoryWriter(store).write(first.id)
    for run in runs[1:]:
        await store.create(run, None)
    await store.close()
    copy_to_all(home / "lab.db", first.id)
    return [run.id for run in runs]


def first_paint(browser: Any, folder: Path, num_runs: int, num_metrics: int) -> list[Row]:
    """Measure the runs page of a warm server, with a new browser profile each time."""
    paints = []
    with LiveServer(folder / "many", "--slots", "cpu:1") as server:
        url = f"http://{server.http_address}/"
        with Client(server.address) as client:
            client.wait_ready()
        for _ in range(ROUNDS + 1):
            context = browser.new_context()
            page = context.new_page()
            page.goto(url)
            page.locator("#runs tbody tr").nth(99).wait_for()
            paints.append(page.evaluate(PAINT))
            context.close()
    paint_ms = statistics.median(paints[1:])
    what = f"runs page, first paint of {num_runs:,} runs of {num_metrics:,} metrics"
    return [at_most(what, paint_ms, 1000, "ms", f"the first one: {paints[0]:.0f} ms")]


def comparison(browser: Any, folder: Path, ids: Sequence[str], num_points: int) -> list[Row]:
    """Measure how long a comparison takes to be shown, and then a zoom."""
    shown, zoomed = [], []
    with LiveServer(folder / "long", "--slots", "cpu:1") as server:
        with Client(server.address) as client:
            client.wait_ready()
        query = "&".join(f"runs={run_id}" for run_id in ids)
        for _ in range(ROUNDS):
            context = browser.new_context()
            page = context.new_page()
            began = time.perf_counter()
            page.goto(f"http://{server.http_address}/compare?{query}", wait_until="commit")
            page.locator("figure.chart[data-metric=train_loss] canvas").wait_for()
            shown.append(time.perf_counter() - began)
            page.wait_for_timeout(1500)
            figure = page.locator("figure.chart[data-metric=train_loss]")
            figure.evaluate(ARM)
            _drag(page, figure.locator(".u-over").bounding_box())
            zoomed.append(page.evaluate("window.zoomed"))
            context.close()
    what = f"{len(ids)} runs of {num_points / 1e6:g} M points compared"
    return [
        at_most(f"{what}: shown", statistics.median(shown), 2, "s", f"the first: {shown[0]:.2f} s"),
        at_most(f"{what}: a zoom", statistics.median(zoomed), 300, "ms"),
    ]


def _drag(page: Any, box: dict[str, float]) -> None:
    """Drag over a tenth of a chart."""
    y = box["y"] + 50
    page.mouse.move(box["x"] + 0.2 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], y, steps=3)
    page.mouse.up()


def watching(browser: Any, folder: Path) -> list[Row]:
    """Measure the processor time of server and browser while a page watches live runs, and while none does."""
    # its trainers end with it
    arguments = (
        "--slots",
        f"cpu:{WATCHED}",
        "--experiments",
        str(EXPERIMENT),
        "--on-shutdown",
        "stop",
    )
    names = ("nobody", "the runs page", "a comparison", "a run's page")
    server_s: dict[str, list[float]] = {name: [] for name in names}
    browser_s: dict[str, list[float]] = {name: [] for name in names}
    with (
        LiveServer(folder / "live", *arguments) as server,
        Client(server.address) as client,
    ):
        client.wait_ready()
        runs = [client.create("watched_experiment").start() for _ in range(WATCHED)]
        for run in runs:
            next(event for event in run.events() if event.kind == "metrics")
        assert server.process is not None
        pid = server.process.pid
        page = browser.new_context().new_page()
        idle_browser()
        query = "&".join(f"runs={run.id}" for run in runs)
        paths = dict(zip(names[1:], ("", f"compare?{query}", f"runs/{runs[0].id}"), strict=True))
        for name in names * WATCH_ROUNDS:
            if name == "nobody":
                page.goto("about:blank")
            else:
                page.goto(f"http://{server.http_address}/{paths[name]}")
                page.get_by_text("live", exact=True).wait_for()
            time.sleep(2)
            of_server, of_browser = cpu_s(pid), browser_cpu_s()
            time.sleep(WATCH_S)
            server_s[name].append(cpu_s(pid) - of_server)
            browser_s[name].append(browser_cpu_s() - of_browser)
        page.close()
        for run in runs:
            run.stop()
    idle = 100 * statistics.median(server_s["nobody"]) / WATCH_S
    rows = []
    for name in names[1:]:
        what = f"{name} beside {WATCHED} live runs"
        rows += [
            at_most(
                f"server's processor time for {what}",
                _more(server_s, name),
                2,
                "% of a core",
                f"without a page {idle:.1f} %",
            ),
            Row(
                f"browser's processor time for {name}", f"{_more(browser_s, name):.2f} % of a core"
            ),
        ]
    return rows


def _more(used_s: dict[str, list[float]], name: str) -> float:
    """Return how much of a core, in per cent, a page takes more than none."""
    pairs = zip(used_s[name], used_s["nobody"], strict=True)
    return 100 * statistics.median(some - none for some, none in pairs) / WATCH_S


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--metrics", type=int, default=2000, help="of each run")
    parser.add_argument("--points", type=int, default=1_000_000, help="of each run compared")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="these parts; all unless given"
    )
    given = parser.parse_args()
    parts = given.only or PARTS
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as name:
        folder = Path(name)
        for home in ("many", "long"):
            (folder / home).mkdir()
        # before the browser, whose driver has an event loop of its own here
        ids = []
        if "paint" in parts:
            asyncio.run(fill_with_metrics(folder / "many", given.runs, given.metrics))
        if "compare" in parts:
            ids = asyncio.run(fill_with_points(folder / "long", NUM_COMPARED, given.points))
        with open_browser() as chromium:
            measures: dict[str, Callable[[], list[Row]]] = {
                "paint": lambda: first_paint(chromium, folder, given.runs, given.metrics),
                "compare": lambda: comparison(chromium, folder, ids, given.points),
                "watch": lambda: watching(chromium, folder),
                "training": lambda: cost_to_training(chromium, folder, EXPERIMENT),
            }
            for part, measure in measures.items():
                if part in parts:
                    print(markdown(measure()), flush=True)
