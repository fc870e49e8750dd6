"""The list of users: all of them, newest first, each once, whatever happens between two pages."""

import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest
from bs4 import BeautifulSoup, Tag

from tests.seed import seed_users
from tests.support.desk import Desk
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.user_lists import PAGE, find, key_of, list_rows_of_pages, list_users
from trusted_service.models import Identity

COUNT = 120
BLOCKED = 0.3


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    """A local Azure with nobody but those who are put there here."""
    with own_azure(measured=True) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(own: OwnAzure) -> list[Identity]:
    """120 users of the last two years, some of them blocked, the newest first."""
    users = seed_users(own.azure.env, COUNT, blocked=BLOCKED)
    return sorted(users, key=lambda user: user.created_at, reverse=True)


@pytest.fixture(scope="module")
def clerk(own: OwnAzure, crowd: list[Identity]) -> Desk:
    """An administrator of these users."""
    return own.new_desk()


def ids(users: list[Identity]) -> list[str]:
    return [user.user_id.object_id for user in users]


def test_api_lists_everybody_once_newest_first(crowd: list[Identity], clerk: Desk) -> None:
    listed = list(list_users(clerk))
    assert [user["objectId"] for user in listed] == ids(crowd)
    assert all(after["createdAt"] <= before["createdAt"] for before, after in pairwise(listed))


def test_user_of_the_list_is_the_one_of_the_single_route(crowd: list[Identity], clerk: Desk) -> None:
    first = next(list_users(clerk))
    assert clerk.get_user(str(crowd[0].user_id)) == first
    assert first["communicationUserId"] == crowd[0].acs_user_id
    assert first["blocked"] is crowd[0].blocked
    assert first["createdAt"] == crowd[0].created_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_pages_hold_fifty_and_lead_to_the_next(crowd: list[Identity], clerk: Desk) -> None:
    pages = list(list_rows_of_pages(clerk))
    assert [len(rows) for rows in pages] == [PAGE, PAGE, COUNT - 2 * PAGE]
    keys = [key_of(row) for rows in pages for row in rows]
    assert keys == [str(user.user_id) for user in crowd]


def test_page_shows_what_is_known_of_a_user(crowd: list[Identity], clerk: Desk) -> None:
    rows = [row for rows in list_rows_of_pages(clerk) for row in rows]
    for row, user in zip(rows, crowd, strict=True):
        text = row.get_text(" ", strip=True)
        for part in (user.name, user.username, user.acs_user_id, "Blocked" if user.blocked else "Active"):
            assert part is not None
            assert part in text


@pytest.mark.parametrize("blocked", [False, True])
def test_status_shows_only_those(crowd: list[Identity], clerk: Desk, *, blocked: bool) -> None:
    expected = [user for user in crowd if user.blocked == blocked]
    assert expected
    status = "blocked" if blocked else "active"
    assert find(clerk, status=status) == ids(expected)
    keys = [key_of(row) for rows in list_rows_of_pages(clerk, status=status) for row in rows]
    assert keys == [str(user.user_id) for user in expected]


def test_search_and_status_together_show_only_both(crowd: list[Identity], clerk: Desk) -> None:
    user = next(user for user in crowd if user.blocked)
    assert find(clerk, q=user.username, status="blocked") == [user.user_id.object_id]
    assert find(clerk, q=user.username, status="active") == []
    assert find(clerk, q=user.user_id.object_id, status="active") == []
    assert find(clerk, q=str(user.acs_user_id), status="active") == []


def test_page_is_sorted_by_name_where_asked(crowd: list[Identity], clerk: Desk) -> None:
    keys = [key_of(row) for rows in list_rows_of_pages(clerk, sort="name") for row in rows]
    assert sorted(keys) == sorted(str(user.user_id) for user in crowd)
    names = {str(user.user_id): user.name for user in crowd}
    firsts = [names[key].split()[0] for key in keys]
    plain = [name for name in firsts if name.isascii()]
    assert plain == sorted(plain)
    assert firsts.index("Élodie") < firsts.index("Fatima")  # not after Z, as code points have it
    assert firsts.index("Dmitri") < firsts.index("Élodie")


def test_shorter_name_comes_before_the_longer_ones_that_begin_with_it(own: OwnAzure, clerk: Desk) -> None:
    mark = f"zz{uuid.uuid4().hex[:8]}"
    people = [own.new_user(name=f"{mark}{rest}") for rest in ("a b", "", "-a", " b", "a", "_", "1", ".")]
    rows = [row for rows in list_rows_of_pages(clerk, q=mark) for row in rows]
    shown = [row.find_all("td")[1].find("a").get_text() for row in rows]  # type: ignore[union-attr]
    assert shown == [f"{mark}{rest}" for rest in ("", " b", "-a", ".", "1", "_", "a", "a b")]
    for person in people:
        clerk.do("api", person, "delete")


def test_page_shows_the_users_of_one_tenant_where_asked(
    own: OwnAzure, crowd: list[Identity], clerk: Desk
) -> None:
    first, second = own.azure.env["ENTRA_ALLOWED_TENANTS"], str(uuid.uuid4())
    others = seed_users(own.azure.env, PAGE + 10, tenant_id=second, blocked=BLOCKED)
    others.sort(key=lambda user: user.created_at, reverse=True)
    with Service({**own.service.env, "ENTRA_ALLOWED_TENANTS": f"{first},{second}"}) as service:
        there = Desk(clerk.person.at(service.url))

        def keys(**query: str) -> list[str]:
            return [key_of(row) for rows in list_rows_of_pages(there, **query) for row in rows]

        assert keys(tenant=second) == [str(user.user_id) for user in others]
        assert keys(tenant=first) == [str(user.user_id) for user in crowd]
        blocked = [str(user.user_id) for user in others if user.blocked]
        assert keys(tenant=second, status="blocked") == blocked
        assert set(keys(tenant=second, sort="name")) == {str(user.user_id) for user in others}
        assert keys(tenant=second, q=crowd[0].username) == []
        assert len(keys()) == len(crowd) + len(others)
        choice = BeautifulSoup(there.person.get("/admin/users").text, "html.parser").find(id="tenant")
        assert isinstance(choice, Tag)
        assert [option.get_text() for option in choice.find_all("option")][1:] == [first, second]
    for user in others:
        own.tables.get_table_client("identities").delete_entity(user.user_id.object_id, second)
    assert find(clerk) == ids(crowd)


QUERIES: list[dict[str, str]] = [{}, {"status": "active"}]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_cursor_goes_on_with_its_own_list(crowd: list[Identity], clerk: Desk, query: dict[str, str]) -> None:
    first = clerk.person.get("/api/admin/users", params=query).json()
    assert first["next"]
    cursor = {"cursor": first["next"]}
    second = clerk.person.get("/api/admin/users", params={**query, **cursor}).json()
    assert second["users"]
    assert clerk.person.get("/api/admin/users", params=cursor).json()["users"] == second["users"]
    empty = {"q": "", "status": "", **cursor}
    assert clerk.person.get("/api/admin/users", params=empty).json()["users"] == second["users"]
    for other in ({"status": "blocked"}, {"q": "somebody else"}):
        answer = clerk.person.get("/api/admin/users", params={**query, **other, **cursor})
        assert_problem(answer, 400, "invalid_request")
    assert clerk.person.get("/admin/users", params=cursor).status_code == 400, "it is the API's"


def test_search_by_a_common_beginning_finds_all_of_them(crowd: list[Identity], clerk: Desk) -> None:
    expected = {user.user_id.object_id for user in crowd if user.name.startswith("Grace")}
    assert expected
    for q in ("Grace", "grace", "GRACE", " grace "):
        found = find(clerk, q=q)
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_one_letter_finds_all_pages_of_them(crowd: list[Identity], clerk: Desk) -> None:
    expected = {
        user.user_id.object_id for user in crowd if any(word[0] in "IiEeÉé" for word in user.name.split())
    }
    assert {user for q in ("e", "i") for user in find(clerk, q=q)} == expected


def test_everybody_is_listed_once_while_users_come_and_go(
    own: OwnAzure, crowd: list[Identity], clerk: Desk
) -> None:
    listed: list[str] = []
    gone: set[str] = set()
    turned: set[str] = set()
    remaining = [str(user.user_id) for user in crowd]

    def change() -> None:
        """Let somebody in, delete one who was shown and one who was not, block or unblock one of each."""
        own.new_user()
        here = [key for key in remaining if key not in gone | turned]
        early, late = here[0], here[-1]
        for key in (early, late):
            clerk.do("api", key, "delete")
            if clerk.look_at(key).status_code == 200:  # a block stays
                clerk.do("api", key, "unblock")
            gone.add(key)
        for key in (here[1], here[-2]):
            clerk.do("api", key, "unblock" if clerk.get_user(key)["blocked"] else "block")
            turned.add(key)

    for user in list_users(clerk, change):
        listed.append(f"{user['tenantId']}/{user['objectId']}")
    assert len(gone) == len(turned) == 4
    assert len(listed) == len(set(listed))
    assert set(remaining) - gone <= set(listed)
    assert turned <= set(listed)
