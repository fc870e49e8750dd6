"""One Chromium for these tests, and people who sit in front of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.states import STATES, Cast
from tests.support.chromium import Chromium, Window
from tests.support.person import Person

OpenWindow = Callable[..., Window]
ShowPage = Callable[[str, str], Page]

PATIENCE_SECONDS = 30
expect.set_options(timeout=PATIENCE_SECONDS * 1000)  # the usual five are few for a machine with other work


# Not for the session: as long as Playwright runs, no other test could start an event loop.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    with Chromium() as running:
        yield running


@pytest.fixture
def open_window(chromium: Chromium) -> Iterator[OpenWindow]:
    """Opens windows; when the test is over, nothing may have gone wrong in any of them."""
    windows: list[Window] = []

    def open_one(**options: Any) -> Window:
        windows.append(chromium.open_window(**options))
        return windows[-1]

    yield open_one
    for window in windows:
        window.close()


@pytest.fixture
def window(open_window: OpenWindow) -> Window:
    """A window that shows nothing yet."""
    return open_window()


@pytest.fixture
def home(window: Window, signed_in: Person) -> Page:
    """The home page of `signed_in`, who did not sign in by clicking: that has tests of its own."""
    window.take_cookies(signed_in)
    page = window.new_page()
    page.goto(signed_in.url)
    return page


@pytest.fixture(scope="package")
def show(chromium: Chromium, regular: Person, new_person: Callable[..., Person]) -> Iterator[ShowPage]:
    """Shows a page in a state and a language. Each is opened once: tests only look at it."""
    admin = new_person(roles=["TrustedService.Admin"])
    assert admin.sign_in().status_code == 302
    cast = Cast.gather(regular, admin)
    windows: list[Window] = []
    pages: dict[tuple[str, str], Page] = {}

    def show_page(state: str, language: str) -> Page:
        if (state, language) not in pages:
            windows.append(chromium.open_window(locale=language))
            pages[state, language] = STATES[state].show(windows[-1], cast)
        return pages[state, language]

    yield show_page
    for window in windows:
        window.close()
