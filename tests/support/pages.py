"""Pages as a browser without scripts reads them, and checks of error pages."""

import re

import requests
from bs4 import BeautifulSoup

from tests.support.cookies import read_cookies
from tests.support.person import Person

TAGS = (
    "a|abbr|b|br|code|d[dlt]|details|div|em|h[1-6]|hr|i|img|kbd|li|nav|ol|p|pre|section|small|span|strong|svg"
)
TAGS += "|strong|svg|su[bp]|summary|t[dhr]|table|tbody|u|ul|var"
MARKUP = re.compile(
    rf"</?(?:{TAGS})\b[^>]*>|&(?:[a-z]+|#\w+);|{{[{{%]|`|\*\*|\]\(|%\(\w+\)s|#/components", re.IGNORECASE
)


def read_page(person: Person, path: str, **query: str) -> BeautifulSoup:
    """Return the page, which must succeed and must not be cached."""
    response = person.get(path, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    return BeautifulSoup(response.text, "html.parser")


def message_on(page: BeautifulSoup) -> str:
    """Return the page's status message, or an empty string."""
    message = page.select_one("[role=status]")
    return "" if message is None else message.get_text(strip=True)


def assert_error_page(response: requests.Response, status: int) -> BeautifulSoup:
    """Check that the response is a complete, uncached error page without a session; return it."""
    assert response.status_code == status, response.text[:300].split("<title>")[-1]
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Location" not in response.headers
    assert not [name for name in read_cookies(response) if name.endswith("session")]
    assert status != 503 or response.headers["Retry-After"]
    page = BeautifulSoup(response.text, "html.parser")
    assert page.title is not None
    assert page.find("h1") is not None
    assert response.headers["X-Request-ID"] in response.text
    assert "Traceback" not in response.text
    assert_no_visible_markup(page)
    return page


def assert_no_visible_markup(page: BeautifulSoup) -> None:
    """Check that the page's text, apart from code, shows no tag, entity, placeholder or Markdown."""
    strings = (string for string in page.strings if string.find_parent(["script", "style", "pre"]) is None)
    text = "".join(strings)
    assert not MARKUP.search(text), MARKUP.findall(text)
