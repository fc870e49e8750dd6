"""Keyboard use: everything can be reached, in page order, with visible focus."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ShowPage
from tests.browser.steps import SIGN_OUT, expect_signed_out
from tests.support.person import Person

NAME = "element => element.id || element.textContent.trim() || element.name"
STOPS = """() => {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
  return [...all].filter((one) => one.type !== "hidden" && one.getClientRects().length);
}"""
# Partly visible is enough (WCAG 2.4.11): browsers do not scroll fully to a field taller than the viewport.
SHOWS_FOCUS = """() => {
  const at = document.activeElement, style = getComputedStyle(at), place = at.getBoundingClientRect();
  const drawn = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return drawn && place.width > 0 && place.bottom > 0 && place.top < innerHeight;
}"""


def find_stops(page: Page) -> list[str]:
    """Return the elements that should take the focus, in page order."""
    stops: list[str] = page.evaluate(f"() => ({STOPS})().map({NAME})")
    return stops


def walk(page: Page, key: str, times: int) -> list[str]:
    """Press the key `times` times; return the focused elements, after checking that the focus is visible."""
    places: list[str] = []
    for _ in range(times):
        page.keyboard.press(key)
        places.append(page.evaluate(f"({NAME})(document.activeElement)"))
        assert page.evaluate(SHOWS_FOCUS), f"the focus on {places[-1]} is not visible"
    return places


@pytest.mark.parametrize("state", ["signed-out", "home-with-token", "account", "failed-sign-in"])
def test_focus_follows_page_order_in_both_directions(state: str, show: ShowPage) -> None:
    page = show(state, "en")
    page.set_viewport_size({"width": 1280, "height": 900})
    first, *rest = find_stops(page)
    page.get_by_text(first).focus()
    assert walk(page, "Tab", len(rest)) == rest
    assert walk(page, "Shift+Tab", len(rest)) == [first, *rest[:-1]][::-1]


def test_token_is_fetched_and_read_from_the_keyboard(home: Page) -> None:
    home.locator("#get-token").focus()
    home.keyboard.press("Enter")
    expect(home.locator("#token-result")).to_be_visible()
    expect(home.locator("#get-token")).to_be_focused()
    stops = find_stops(home)
    rest = stops[stops.index("get-token") + 1 :]
    assert {"token-text", "copy-token"} <= set(rest)
    assert walk(home, "Tab", len(rest)) == rest


def test_skip_link_leads_past_the_navigation(home: Page) -> None:
    skip = home.get_by_role("link", name="Skip to main content")
    width = "link => link.getBoundingClientRect().width"
    assert skip.evaluate(width) <= 1
    assert walk(home, "Tab", 1) == find_stops(home)[:1]
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport(ratio=1)
    assert skip.evaluate(width) > 1
    home.keyboard.press("Enter")
    expect(home.get_by_role("main")).to_be_focused()
    home.keyboard.press("Tab")
    assert home.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_sign_out_works_from_the_keyboard(home: Page, signed_in: Person) -> None:
    home.locator(SIGN_OUT).focus()
    home.keyboard.press("Enter")
    expect_signed_out(home)
    assert signed_in.get("/api/me").status_code == 401
