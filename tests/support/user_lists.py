"""The lists of users as administrators see them, read page by page."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

from bs4 import BeautifulSoup, Tag

from tests.support.desk import SECTION_5A, Desk

PAGE = 50
MOST_PAGES = 200

User = dict[str, Any]
Nothing = Callable[[], object]


def list_users(desk: Desk, between: Nothing | None = None, **query: str) -> Iterator[User]:
    """Every user of the API's list; `between` is done after each page."""
    cursor: str | None = ""
    for _ in range(MOST_PAGES):
        parameters = query | ({"cursor": cursor} if cursor else {})
        answer = desk.person.get("/api/admin/users", params=parameters)
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert list(document) == ["users", "next"]
        assert len(document["users"]) <= PAGE
        for user in document["users"]:
            assert list(user) == SECTION_5A
            yield user
        cursor = document["next"]
        if cursor is None:
            return
        if between is not None:
            between()
    raise AssertionError("no end of pages")


def find(desk: Desk, **query: str) -> list[str]:
    """The object ids of every user that the API's list shows."""
    return [str(user["objectId"]) for user in list_users(desk, None, **query)]


def list_rows_of_pages(desk: Desk, **query: str) -> Iterator[list[Tag]]:
    """The rows of the table on every page, reached by its links with rel=next."""
    url, parameters = "/admin/users", query
    for _ in range(MOST_PAGES):
        answer = desk.person.get(url, params=parameters)
        assert answer.status_code == 200, answer.text
        page = BeautifulSoup(answer.text, "html.parser")
        yield [row for row in page.select("tbody tr") if isinstance(row, Tag)]
        links = page.select("a[rel~=next]")
        assert len(links) <= 1
        if not links:
            return
        url, parameters = urljoin("/admin/users", str(links[0]["href"])), {}
    raise AssertionError("no end of pages")


def key_of(row: Tag) -> str:
    """The user of a table's row, as `<tenant id>/<object id>`."""
    link = row.find("a")
    assert isinstance(link, Tag)
    return str(link["href"]).removeprefix("/admin/users/")
