"""A real browser, Debian's chromium, that watches what its pages complain of."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lab_client
from lab_client import choice
from tests.browser.shown import EVIL, Shown
from tests.servers import RealServer, start_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# no sandbox: tests may run as root; the rest keeps it from calling its maker
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
)
WAIT_MS = 60_000
WAIT_S = 300
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 800}

# Told as an error of the console, so that it is seen wherever it happens on the page.
TELL_CSP = (
    "addEventListener('securitypolicyviolation', e => console.error('CSP: ' + e.violatedDirective))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless chromium.

    Of each module: playwright runs an event loop in this thread, beside which no asynchronous test can run.
    """
    missing = [
        what
        for what, is_there in (
            ("chromium; on Debian: apt-get install chromium", CHROMIUM),
            ("playwright; it is in the extra dev", importlib.util.find_spec("playwright")),
        )
        if not is_there
    ]
    if missing:
        assert "TESTS_MUST_RUN" not in os.environ, f"CI must have {missing[0]}"
        pytest.skip(f"there is no {missing[0]}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Windows:
    """Opens pages, each in a window of its own unless told which.

    Attributes:
        problems: what pages wrote to their consoles as errors: exceptions of scripts, and what the content policy forbids.
    """

    browser: Any
    problems: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    def window(self, **options: Any) -> Any:
        """Open a window, a context of playwright: tabs in it share cookies and streams."""
        context = self.browser.new_context(**({"viewport": DESK} | options))
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(TELL_CSP)
        self.contexts.append(context)
        return context

    def open(self, url: str, *, window: Any = None, **options: Any) -> Any:
        """Open a page in a tab."""
        page = (window or self.window(**options)).new_page()
        page.on("pageerror", lambda error: self.problems.append(f"{url}: {error}"))
        page.on("console", lambda told: self._note(url, told))
        page.goto(url)
        return page

    def close(self) -> None:
        """Close all windows."""
        for context in self.contexts:
            context.close()

    def _note(self, url: str, told: Any) -> None:
        # what a server that restarts, or refuses, leaves in the console is no fault of the page
        if told.type == "error" and not told.text.startswith("Failed to load resource"):
            self.problems.append(f"{url}: {told.text}")


@pytest.fixture
def windows(browser: Any) -> Iterator[Windows]:
    """Windows of the browser; at the end no page in them has complained of anything."""
    with contextlib.closing(Windows(browser)) as opened:
        yield opened
        assert opened.problems == []


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[RealServer]:
    """A server with two slots and small experiments."""
    home = tmp_path_factory.mktemp("lab-home")
    experiments = (
        Path(__file__).parents[1] / "experiments.py",
        Path(__file__).with_name("steered.py"),
        Path(__file__).with_name("painted.py"),
    )
    started = start_server(
        home, "--slots", "cpu:2", *(a for path in experiments for a in ("--experiments", str(path)))
    )
    yield started
    started.stop()


@pytest.fixture(scope="module")
def client(lab: RealServer) -> Iterator[lab_client.Client]:
    """A client of it."""
    with lab_client.Client(lab.address, timeout_s=WAIT_S, retry_timeout_s=WAIT_S) as client:
        yield client


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


@pytest.fixture
def steer(tmp_path: Path) -> Callable[..., str]:
    """Write what the experiment `steered` does next; returns the file to give to it."""
    path = tmp_path / "steer"

    def write(level: float, pace_s: float) -> str:
        draft = path.with_suffix(".new")
        draft.write_text(f"{level} {pace_s}")
        draft.replace(path)
        return str(path)

    return write
