"""The list of users: all of them, newest first, each once, whatever happens between two pages."""

import uuid
from collections.abc import Iterator
from itertools import pairwise

import pytest
from bs4 import BeautifulSoup

from tests.support.admin_client import Admin
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.problems import assert_problem
from tests.support.seed import seed_users
from tests.support.service import Service
from tests.support.user_lists import PAGE, find, key_of, list_rows_of_pages, list_users
from trusted_service.models import Identity

COUNT = 120


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    """A local Azure with nobody but those who are put there here."""
    with own_azure(measured=True) as running:
        yield running


@pytest.fixture(scope="module")
def crowd(own: OwnAzure) -> list[Identity]:
    """120 users of the last two years, some of them blocked, the newest first."""
    users = seed_users(own.azure.env, COUNT, blocked=0.3)
    return sorted(users, key=lambda user: user.created_at, reverse=True)


@pytest.fixture(scope="module")
def clerk(own: OwnAzure, crowd: list[Identity]) -> Admin:
    """An administrator of these users."""
    return own.new_admin()


def ids(users: list[Identity]) -> list[str]:
    return [user.user_id.object_id for user in users]


def keys(users: list[Identity]) -> list[str]:
    return [str(user.user_id) for user in users]


def shown(admin: Admin, **query: str) -> list[str]:
    """The keys of the users on all pages."""
    return [key_of(row) for rows in list_rows_of_pages(admin, **query) for row in rows]


def test_api_lists_everybody_once_newest_first(crowd: list[Identity], clerk: Admin) -> None:
    listed = list(list_users(clerk))
    assert [user["objectId"] for user in listed] == ids(crowd)
    assert all(after["createdAt"] <= before["createdAt"] for before, after in pairwise(listed))
    first = listed[0]
    assert clerk.get_user(str(crowd[0].user_id)) == first
    assert first["communicationUserId"] == crowd[0].acs_user_id
    assert first["blocked"] is crowd[0].blocked
    assert first["createdAt"] == crowd[0].created_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_pages_hold_fifty_and_show_what_is_known(crowd: list[Identity], clerk: Admin) -> None:
    pages = list(list_rows_of_pages(clerk))
    assert [len(rows) for rows in pages] == [PAGE, PAGE, COUNT - 2 * PAGE]
    for row, user in zip([row for rows in pages for row in rows], crowd, strict=True):
        assert key_of(row) == str(user.user_id)
        text = row.get_text(" ", strip=True)
        for part in (user.name, user.username, user.acs_user_id, "Blocked" if user.blocked else "Active"):
            assert part is not None
            assert part in text


@pytest.mark.parametrize("blocked", [False, True])
def test_status_shows_only_those(crowd: list[Identity], clerk: Admin, *, blocked: bool) -> None:
    expected = [user for user in crowd if user.blocked == blocked]
    assert expected
    status = "blocked" if blocked else "active"
    assert find(clerk, status=status) == ids(expected)
    assert shown(clerk, status=status) == keys(expected)


def test_search_and_status_together_show_only_both(crowd: list[Identity], clerk: Admin) -> None:
    user = next(user for user in crowd if user.blocked)
    assert find(clerk, q=user.username, status="blocked") == [user.user_id.object_id]
    assert find(clerk, q=user.username, status="active") == []
    assert find(clerk, q=user.user_id.object_id, status="active") == []
    assert find(clerk, q=str(user.acs_user_id), status="active") == []


def test_page_is_sorted_by_name_where_asked(crowd: list[Identity], clerk: Admin) -> None:
    names = {str(user.user_id): user.name for user in crowd}
    listed = shown(clerk, sort="name")
    assert sorted(listed) == sorted(names)
    firsts = [names[key].split()[0] for key in listed]
    plain = [name for name in firsts if name.isascii()]
    assert plain == sorted(plain)
    assert firsts.index("Dmitri") < firsts.index("Élodie") < firsts.index("Fatima")  # not after Z


def test_shorter_name_comes_first(own: OwnAzure, clerk: Admin) -> None:
    mark = f"zz{uuid.uuid4().hex[:8]}"
    rests = ("a b", "", "-a", " b", "a", "_", "1", ".")
    people = {own.new_user(name=f"{mark}{rest}").key: rest for rest in rests}
    listed = [people[key] for key in shown(clerk, q=mark)]
    assert listed == ["", " b", "-a", ".", "1", "_", "a", "a b"]
    for key in people:
        clerk.do("api", key, "delete")


def test_page_shows_users_of_one_tenant(own: OwnAzure, crowd: list[Identity], clerk: Admin) -> None:
    first, second = own.azure.env["ENTRA_ALLOWED_TENANTS"], str(uuid.uuid4())
    others = seed_users(own.azure.env, PAGE + 10, tenant_id=second, blocked=0.3)
    others.sort(key=lambda user: user.created_at, reverse=True)
    with Service({**own.service.env, "ENTRA_ALLOWED_TENANTS": f"{first},{second}"}) as service:
        there = Admin(clerk.person.at(service.url))
        assert shown(there, tenant=second) == keys(others)
        assert shown(there, tenant=first) == keys(crowd)
        blocked = keys([user for user in others if user.blocked])
        assert shown(there, tenant=second, status="blocked") == blocked
        assert set(shown(there, tenant=second, sort="name")) == set(keys(others))
        assert shown(there, tenant=second, q=crowd[0].username) == []
        assert len(shown(there)) == len(crowd) + len(others)
        choice = BeautifulSoup(there.person.get("/admin/users").text, "html.parser").select("#tenant option")
        assert [option.get_text() for option in choice][1:] == [first, second]
    for user in others:
        own.tables.get_table_client("identities").delete_entity(user.user_id.object_id, second)
    assert find(clerk) == ids(crowd)


@pytest.mark.parametrize("query", [{}, {"status": "active"}], ids=str)
def test_cursor_goes_on_with_its_own_list(crowd: list[Identity], clerk: Admin, query: dict[str, str]) -> None:
    first = clerk.person.get("/api/admin/users", params=query).json()
    assert first["next"]
    cursor = {"cursor": first["next"]}
    second = clerk.person.get("/api/admin/users", params={**query, **cursor}).json()
    assert second["users"]
    for same in (cursor, {"q": "", "status": "", **cursor}):
        assert clerk.person.get("/api/admin/users", params=same).json()["users"] == second["users"]
    for other in ({"status": "blocked"}, {"q": "somebody else"}):
        response = clerk.person.get("/api/admin/users", params={**query, **other, **cursor})
        assert_problem(response, 400, "invalid_request")
    assert clerk.person.get("/admin/users", params=cursor).status_code == 400, "it is the API's"


def test_everybody_is_listed_once_meanwhile(own: OwnAzure, crowd: list[Identity], clerk: Admin) -> None:
    gone: set[str] = set()
    turned: set[str] = set()
    remaining = keys(crowd)

    def change() -> None:
        """Let somebody in, delete one who was shown and one who was not, block or unblock one of each."""
        own.new_user()
        here = [key for key in remaining if key not in gone | turned]
        for key in (here[0], here[-1]):
            clerk.do("api", key, "delete")
            if clerk.fetch_user(key).status_code == 200:  # a block stays
                clerk.do("api", key, "unblock")
            gone.add(key)
        for key in (here[1], here[-2]):
            clerk.do("api", key, "unblock" if clerk.get_user(key)["blocked"] else "block")
            turned.add(key)

    listed = [f"{user['tenantId']}/{user['objectId']}" for user in list_users(clerk, change)]
    assert len(gone) == len(turned) == 4
    assert len(listed) == len(set(listed))
    assert set(remaining) - gone <= set(listed)
    assert turned <= set(listed)
