"""The lists of users as administrators see them, read page by page."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

from bs4 import Tag

from tests.support.admin_client import SECTION_5A, Admin
from tests.support.pages import read_page

PAGE = 50
MAX_PAGES = 200


def list_users(
    admin: Admin, between: Callable[[], object] | None = None, **query: str
) -> Iterator[dict[str, Any]]:
    """Yield every user of the API's list; calls `between` after each page."""
    for _ in range(MAX_PAGES):
        response = admin.person.get("/api/admin/users", params=query)
        assert response.status_code == 200, response.text
        document = response.json()
        assert list(document) == ["users", "next"]
        assert len(document["users"]) <= PAGE
        assert all(list(user) == SECTION_5A for user in document["users"])
        yield from document["users"]
        if document["next"] is None:
            return
        query["cursor"] = document["next"]
        if between is not None:
            between()
    raise AssertionError("no end of pages")


def find(admin: Admin, **query: str) -> list[str]:
    """Return the object ids of all users in the API's list."""
    return [str(user["objectId"]) for user in list_users(admin, None, **query)]


def list_rows_of_pages(admin: Admin, **query: str) -> Iterator[list[Tag]]:
    """Yield the table rows of each page, following the links with rel=next."""
    url = "/admin/users"
    for _ in range(MAX_PAGES):
        page = read_page(admin.person, url, **query)
        yield page.select("tbody tr")
        links = page.select("a[rel~=next]")
        assert len(links) <= 1
        if not links:
            return
        url, query = urljoin(url, str(links[0]["href"])), {}
    raise AssertionError("no end of pages")


def key_of(row: Tag) -> str:
    """Return the user of a table row, as `<tenant id>/<object id>`."""
    return str(row.select("a")[0]["href"]).removeprefix("/admin/users/")
