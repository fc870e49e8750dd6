"""Every page in every state meets WCAG 2.2 AA: light and dark, phone and desktop, English and French."""

import re
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ShowPage
from tests.browser.states import STATES
from tests.support.chromium import find_violations

PHONE, DESKTOP = 320, 1280
LANGUAGES = ["en", "fr"]
SAME_IN_BOTH = {"Action", "Code", "Pages", "Sessions", "Total"}
IN_NO_LANGUAGE = re.compile("python-requests|[0-9a-f]{8}-")
# Texts that users read or hear, and those that scripts show later, without names, ids and code.
TEXTS = """() => {
  const texts = [document.title], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode;
    const apart = "code, textarea, [dir=auto], #token-scopes, body [lang]";
    if (!text.parentElement.closest(apart)) texts.push(text.data);
  }
  for (const element of document.querySelectorAll("*:not(body [lang] *)")) {
    for (const { name, value } of element.attributes) {
      if (/^(aria-label|title|alt|placeholder|data-(?!csrf|bs-|url|state).*)$/.test(name)) texts.push(value);
    }
  }
  return texts.map((text) => text.trim()).filter((text) => /[a-z]{2}/i.test(text));
}"""


def choose_colours(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)


@pytest.mark.parametrize(("scheme", "width"), [("dark", PHONE), ("light", DESKTOP)])
@pytest.mark.parametrize("state", STATES)
def test_page_has_no_violations(state: str, scheme: str, width: int, show: ShowPage) -> None:
    page = show(state, "en")
    choose_colours(page, scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert find_violations(page) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("state", STATES)
def test_narrow_page_does_not_scroll_sideways(state: str, language: str, show: ShowPage) -> None:
    page = show(state, language)
    page.set_viewport_size({"width": PHONE, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE


@pytest.mark.parametrize("state", STATES)
def test_page_has_a_title_and_headings_in_order(state: str, show: ShowPage) -> None:
    page = show(state, "en")
    headings = page.locator("h1, h2, h3, h4, h5, h6")
    levels = [int(name[1]) for name in headings.evaluate_all("all => all.map(one => one.localName)")]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise([0, *levels]))
    own, _, site = page.title().partition(" \N{EN DASH} ")
    assert own
    assert site == "Trusted access"


@pytest.mark.parametrize("state", STATES)
def test_page_uses_one_language_throughout(state: str, show: ShowPage) -> None:
    texts = []
    for language in LANGUAGES:
        page = show(state, language)
        expect(page.locator("html")).to_have_attribute("lang", language)
        texts.append(set(page.evaluate(TEXTS)))
    english, french = texts
    assert english
    same = {text for text in english & french if not IN_NO_LANGUAGE.match(text)}
    assert same <= SAME_IN_BOTH


def test_colour_scheme_changes_without_a_reload(show: ShowPage) -> None:
    page = show("signed-out", "en")
    backgrounds = []
    for scheme in ("light", "dark"):
        choose_colours(page, scheme)
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backgrounds[0] != backgrounds[1]


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("state", ["signed-out", "home"])
def test_header_lines_up_with_the_page(state: str, width: int, show: ShowPage) -> None:
    page = show(state, "en")
    page.set_viewport_size({"width": width, "height": 900})
    left = "element => element.getBoundingClientRect().left"
    heading = page.get_by_role("heading", level=1).evaluate(left)
    assert heading > 0
    assert page.locator("header a").first.evaluate(left) == heading
