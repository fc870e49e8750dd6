"""One Chromium for these tests, and people who sit in front of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.states import STATES, fill_lists
from tests.browser.steps import show_home
from tests.support.chromium import Chromium, Window
from tests.support.person import Person

OpenWindow = Callable[..., Window]
ShowPage = Callable[[str, str], Page]

expect.set_options(timeout=30_000)  # the usual five are few for a machine with other work


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
    return show_home(window, signed_in)


@pytest.fixture(scope="package")
def show(chromium: Chromium, shared_user: Person, new_person: Callable[..., Person]) -> Iterator[ShowPage]:
    """Shows a page in a state and a language. Each is opened once: tests only look at it."""
    admin = new_person(roles=["TrustedService.Admin"]).signed_in()
    names = fill_lists(shared_user, admin, new_person(name="Renée Placée").signed_in())
    windows: list[Window] = []
    pages: dict[tuple[str, str], Page] = {}

    def show_page(state: str, language: str) -> Page:
        if (state, language) not in pages:
            windows.append(chromium.open_window(locale=language))
            pages[state, language] = STATES[state].show(windows[-1], shared_user, admin, names)
        return pages[state, language]

    yield show_page
    for window in windows:
        window.close()
