"""Runs Chromium and watches every page: an error in the browser fails the test."""

import re
import shutil
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, sync_playwright

from tests.support.person import Person
from tools.chromium import PROGRAM

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
OUR_HOSTS = ("localhost", "127.0.0.1")
SCHEMES_WITHOUT_HOST = ("about", "blob", "data")
AXE = Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Chromium:
    """The browser; each window is a profile of its own, with its own cookies."""

    def __enter__(self) -> Self:
        self._playwright = sync_playwright().start()
        self._processes: dict[bool, Browser] = {}
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.close()
        self._playwright.stop()

    def open_window(self, *, width: int = 1280, scripts: bool = True, **options: Any) -> "Window":
        """Open a window `width` pixels wide, in English unless `locale` is given."""
        if scripts not in self._processes:
            self._processes[scripts] = self._start(scripts)
        # With less motion, colours and scrolling change at once.
        common = {"viewport": {"width": width, "height": 900}, "locale": "en-GB", "reduced_motion": "reduce"}
        context = self._processes[scripts].new_context(**(common | options))
        context.set_default_timeout(10_000)
        return Window(context)

    def _start(self, scripts: bool) -> Browser:
        # A context can disable scripts as well, but does not render <noscript>.
        without_scripts = [] if scripts else ["--blink-settings=scriptEnabled=false"]
        return self._playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM),
            args=[*ARGUMENTS, *without_scripts],
            # Real browsers have this cache, which decides what the back button shows.
            ignore_default_args=["--disable-back-forward-cache"],
        )


class Window:
    """A browser profile whose pages are watched; `close` fails if there was an error in them."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self._problems: list[str] = []
        self._expected: list[str] = []
        context.on("console", lambda message: self._record_console(message.type, message.text))
        context.on("weberror", lambda error: self._problems.append(f"uncaught: {error.error}"))
        context.on("request", self._record_request)
        context.on("requestfailed", self._record_failure)
        context.on("response", self._record_response)

    def new_page(self) -> Page:
        return self.context.new_page()

    def take_cookies(self, person: Person) -> None:
        """Copy the cookies of a person who signed in over HTTP."""
        for cookie in person.http.cookies:
            self.context.add_cookies([{"name": cookie.name, "value": cookie.value or "", "url": person.url}])

    def expect_problem(self, pattern: str) -> None:
        """Allow, and require, problems that match: the test causes them on purpose."""
        self._expected.append(pattern)

    def close(self) -> None:
        """Close all tabs. Raises AssertionError for their problems, and for a missing expected one."""
        for page in self.context.pages:
            page.evaluate("1")  # so that all earlier events of the page have arrived
        problems = [text for text in self._problems if not self._is_expected(text)]
        self.context.close()
        assert not problems, "\n".join(problems)
        for pattern in self._expected:
            assert any(re.search(pattern, text) for text in self._problems), f"there was no {pattern}"

    def _is_expected(self, text: str) -> bool:
        return any(re.search(pattern, text) for pattern in self._expected)

    def _record_console(self, kind: str, text: str) -> None:
        # This includes violations of the content security policy. An error status comes without its URL:
        # `_record_response` records it.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self._problems.append(f"console: {text}")

    def _record_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.hostname not in OUR_HOSTS and address.scheme not in SCHEMES_WITHOUT_HOST:
            self._problems.append(f"a request to another host: {request.url}")

    def _record_failure(self, request: Request) -> None:
        # Requests in progress are aborted when the page is left.
        if request.failure != "net::ERR_ABORTED":
            self._problems.append(f"failed: {request.method} {request.url} {request.failure}")

    def _record_response(self, response: Response) -> None:
        if response.status >= 400:
            self._problems.append(f"status {response.status}: {response.request.method} {response.url}")


def find_violations(page: Page) -> list[str]:
    """Return the page's violations of WCAG 2.2 AA and of axe's best practices."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    run = "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})"
    return [
        f"{violation['id']}: {node['failureSummary']} in {node['html']}"
        for violation in page.evaluate(run, WCAG)["violations"]
        for node in violation["nodes"]
    ]
