"""One Chromium for these tests, with its windows and pages."""

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

expect.set_options(timeout=30_000)  # the default of 5 s is too short for a busy machine


# Not session-scoped: while Playwright runs, no other test can start an event loop.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Chromium]:
    with Chromium() as running:
        yield running


@pytest.fixture
def open_window(chromium: Chromium) -> Iterator[OpenWindow]:
    """Opens windows, and checks after the test that no unexpected problem occurred in them."""
    windows: list[Window] = []

    def open_one(**options: Any) -> Window:
        windows.append(chromium.open_window(**options))
        return windows[-1]

    yield open_one
    for window in windows:
        window.close()


@pytest.fixture
def window(open_window: OpenWindow) -> Window:
    """An empty window."""
    return open_window()


@pytest.fixture
def home(window: Window, signed_in: Person) -> Page:
    """The home page of `signed_in`, by their cookies: sign-in by clicking has its own tests."""
    return show_home(window, signed_in)


@pytest.fixture(scope="package")
def show(chromium: Chromium, shared_user: Person, new_person: Callable[..., Person]) -> Iterator[ShowPage]:
    """Shows a page in a state and a language; opened once, because tests only read it."""
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
