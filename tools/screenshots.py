"""Takes screenshots of every page of the dashboard, with real runs, in both themes and at a phone's width.

    python tools/screenshots.py FOLDER [--docs]

Needs Debian's chromium, and playwright. With --docs the best of them go to docs/images, too.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lab_client import Client, Halving, choice, errors, log_uniform  # noqa: E402
from lab_server.model.roles import Role  # noqa: E402
from lab_server.security.tokens import TokenFile  # noqa: E402
from tests.servers import RealServer, start_server  # noqa: E402

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
EXPERIMENTS = (ROOT / "tests/experiments.py", ROOT / "tests/browser/painted.py")
SMALL = {"dataset": "mnist_5k", "epochs": 2}

# the pictures of the docs: the page and its look, and how many pixels of it from above
IN_DOCS = {
    "runs": ("grid-desk-light", 780),
    "compare-dark": ("compare-desk-dark", 1000),
    "search": ("search-desk-light", 1734),
    "search-phone": ("search-phone-light", 1100),
    "media": ("media-desk-light", 480),
}


@dataclass
class Shown:
    """What there is to see."""

    pages: dict[str, str]
    token: str


def fill(server: RealServer, token: str) -> Shown:
    """Train some runs, and have others fail, wait and be searched for."""
    with Client(server.address, token=token, timeout_s=120) as client:
        grid = [
            client.create(
                "mnist",
                {**SMALL, "learning_rate": rate, "seed": seed},
                name=f"rate {rate:g}, seed {seed}",
                tags=["grid"],
            ).start()
            for seed in (1, 2)
            for rate in (0.003, 0.01, 0.03, 0.1)
        ]
        others = [
            client.create("painted", {"loop_count": 12}, name="samples of each step").start(),
            client.create("raises", name="divides by zero").start(),
        ]
        for run in [*grid, *others]:
            with contextlib.suppress(errors.RunFailed):
                run.wait()
        search = client.search(
            "valley",
            {"x": choice(-1.0, 0.0, 0.25, 0.5), "rate": log_uniform(0.01, 10)},
            minimize="loss",
            max_trials=24,
            name="down into the valley",
        )
        search.wait()
        failed = client.search(
            "valley", {"x": choice(0.0, 0.5)}, minimize="no_such_metric", name="without a value"
        )
        with contextlib.suppress(errors.LabError):
            failed.wait()
        halved = client.search(
            *("valley", {"x": choice(-1.0, 0.0, 0.25, 0.5), "rate": log_uniform(0.01, 10)}),
            minimize="loss",
            max_trials=9,
            halving=Halving(3),
            name="the best go on",
        )
        halved.wait()
        live = client.create("counting", {"steps": 4000, "step_s": 0.1}, name="a long one").start()
        client.create("counting", {"steps": 4000, "step_s": 0.1}, name="another").start()
        waiting = client.create(
            "counting", {"steps": 50, "step_s": 0.1}, name="waits for its turn"
        ).start()
        next(event for event in live.events() if event.kind == "metrics")
    compared = "&".join(f"runs={run.id}" for run in grid[:4])
    return Shown(
        {
            "runs": "/",
            "grid": "/?tag=grid&m=train_loss,test_loss,accuracy",
            "groups": "/?group=learning_rate&tag=grid",
            "run": f"/runs/{grid[1].id}",
            "run-live": f"/runs/{live.id}",
            "run-waits": f"/runs/{waiting.id}",
            "run-failed": f"/runs/{others[1].id}",
            "run-media": f"/runs/{others[0].id}",
            "media": f"/runs/{others[0].id}/media",
            "compare": f"/compare?{compared}",
            "new": "/new",
            "new-mnist": "/new?experiment=mnist",
            "fork": f"/new?parent={grid[0].id}",
            "searches": "/searches",
            "search": f"/searches/{search.id}",
            "search-failed": f"/searches/{failed.id}",
            "search-halving": f"/searches/{halved.id}",
            "server": "/server",
            "error": "/nothing",
        },
        token,
    )


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


def take(browser: Any, url: str, shown: Shown, folder: Path) -> None:
    """Take every page in every look."""
    for size, viewport in SIZES.items():
        for theme in ("light", "dark"):
            context = browser.new_context(viewport=viewport, color_scheme=theme)
            page = context.new_page()
            look = f"{size}-{theme}"
            page.goto(f"{url}/login")
            page.screenshot(path=folder / f"login-{look}.png")
            page.get_by_label("Token").fill(shown.token)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("button", name="Log out").wait_for()
            for name, path in shown.pages.items():
                page.goto(url + path)
                _settle(page)
                page.screenshot(path=folder / f"{name}-{look}.png", full_page=True)
            page.goto(url + shown.pages["compare"])
            page.get_by_role("button", name="TensorBoard").click()
            page.wait_for_url("**/tensorboard/*/**")
            page.get_by_text("loss").first.wait_for()
            page.wait_for_timeout(3000)
            page.screenshot(path=folder / f"tensorboard-{look}.png")
            context.close()


def _settle(page: Any) -> None:
    """Wait until charts are drawn and pictures are there; what is further down comes when it is on screen."""
    for plot in page.locator("figure.chart .plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator("canvas").wait_for()
    media = page.locator("#media")
    if media.count():
        media.scroll_into_view_if_needed()
        media.locator("figure").first.wait_for()
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)


def main(folder: Path, *, is_for_docs: bool) -> None:
    """Start a server, fill it, and take them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lab-screenshots-") as name:
        home = Path(name)
        token = TokenFile(home / "tokens.json").create("ada", Role.OPERATOR)
        experiments = [a for path in EXPERIMENTS for a in ("--experiments", str(path))]
        server = start_server(
            home / "home", "--slots", "cpu:2", "--tokens", str(home / "tokens.json"), *experiments
        )
        try:
            shown = fill(server, token)
            with open_browser() as browser:
                take(browser, server.http_url, shown, folder)
        finally:
            server.stop()
    if is_for_docs:
        put_into_docs(folder)


def put_into_docs(folder: Path) -> None:
    """Cut the pictures of the docs, in 256 colours, which is enough and a third of the size."""
    from PIL import Image

    for name, (source, height) in IN_DOCS.items():
        picture = Image.open(folder / f"{source}.png").convert("RGB")
        part = picture.crop((0, 0, picture.width, min(height, picture.height)))
        part.quantize(256).save(ROOT / f"docs/images/{name}.png", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args()
    main(given.folder, is_for_docs=given.docs)
