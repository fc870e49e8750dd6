"""Runs Chromium, and watches every page: what goes wrong unnoticed in a browser fails the test."""

import re
import shutil
from collections.abc import Sequence
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, sync_playwright

from tests.support.person import Person
from tools.chromium import PROGRAM

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MILLISECONDS = 10_000
OUR_HOSTS = ("localhost", "127.0.0.1")
SCHEMES_WITHOUT_HOST = ("about", "blob", "data")


class Chromium:
    """The browser; each window is a profile of its own, with its own cookies."""

    def __enter__(self) -> Self:
        """Get ready to start it: that happens with the first window."""
        self._playwright = sync_playwright().start()
        self._processes: dict[bool, Browser] = {}
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        for process in self._processes.values():
            process.close()
        self._playwright.stop()

    def open_window(self, *, width: int = 1280, scripts: bool = True, **options: Any) -> "Window":
        """Open a window `width` pixels wide, in English unless `locale` says something else."""
        if scripts not in self._processes:
            self._processes[scripts] = self._start(scripts)
        # With less motion, colours and scrolling change at once.
        common = {"viewport": {"width": width, "height": 900}, "locale": "en-GB", "reduced_motion": "reduce"}
        context = self._processes[scripts].new_context(**(common | options))
        context.set_default_timeout(WAIT_MILLISECONDS)
        return Window(context)

    def _start(self, scripts: bool) -> Browser:
        # A context can be without scripts as well, but it doesn't show what stands in <noscript>.
        without_scripts = [] if scripts else ["--blink-settings=scriptEnabled=false"]
        return self._playwright.chromium.launch(
            executable_path=shutil.which(PROGRAM),
            args=[*ARGUMENTS, *without_scripts],
            # People's browsers have it, and it decides what the back button shows.
            ignore_default_args=["--disable-back-forward-cache"],
        )


class Window:
    """A browser profile whose pages are watched; `close` says whether anything went wrong in them."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self._complaints: list[str] = []
        self._expected: list[str] = []
        context.on("console", lambda message: self._note_console(message.type, message.text))
        context.on("weberror", lambda error: self._complaints.append(f"uncaught: {error.error}"))
        context.on("request", self._note_request)
        context.on("requestfailed", self._note_failure)
        context.on("response", self._note_response)

    def new_page(self) -> Page:
        """Open a tab."""
        return self.context.new_page()

    def take_cookies(self, person: Person) -> None:
        """Let the window have the cookies of a person who signed in over HTTP."""
        self.context.add_cookies(
            [
                {"name": cookie.name, "value": cookie.value or "", "url": person.url}
                for cookie in person.http.cookies
            ]
        )

    def expect_trouble(self, pattern: str) -> None:
        """Let pass, and insist on, complaints that match: trouble that the test makes on purpose."""
        self._expected.append(pattern)

    def complaints(self) -> Sequence[str]:
        """What went wrong until now, what the test made on purpose left out."""
        for page in self.context.pages:
            page.evaluate("1")  # whatever the page has reported before this is read by now
        return [text for text in self._complaints if not self._is_expected(text)]

    def close(self) -> None:
        """Close all tabs; AssertionError with what went wrong in them, or what was to and did not."""
        complaints = self.complaints()
        self.context.close()
        assert not complaints, "\n".join(complaints)
        for pattern in self._expected:
            assert any(re.search(pattern, text) for text in self._complaints), f"there was no {pattern}"

    def _is_expected(self, text: str) -> bool:
        return any(re.search(pattern, text) for pattern in self._expected)

    def _note_console(self, kind: str, text: str) -> None:
        # Violations of the content security policy come this way too. An answer with an error status
        # does as well, without its address: that is noted by `_note_response`.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self._complaints.append(f"console: {text}")

    def _note_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.hostname not in OUR_HOSTS and address.scheme not in SCHEMES_WITHOUT_HOST:
            self._complaints.append(f"a request to a stranger: {request.url}")

    def _note_failure(self, request: Request) -> None:
        # Aborted is what was under way when somebody left the page.
        if request.failure != "net::ERR_ABORTED":
            self._complaints.append(f"failed: {request.method} {request.url} {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400:
            self._complaints.append(f"status {response.status}: {response.request.method} {response.url}")
