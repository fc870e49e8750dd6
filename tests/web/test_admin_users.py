"""The list of users: complete, newest first and without duplicates, even while users change."""

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
    """A local Azure with only the users of this module."""
    with own_azure(measured=True) as running:
        yield running


@pytest.fixture(scope="module")
def seeded(own: OwnAzure) -> list[Identity]:
    """120 users of the last two years, some of them blocked, newest first."""
    users = seed_users(own.azure.env, COUNT, blocked=0.3)
    return sorted(users, key=lambda user: user.created_at, reverse=True)


@pytest.fixture(scope="module")
def admin(own: OwnAzure, seeded: list[Identity]) -> Admin:
    """An administrator of these users."""
    return own.new_admin()


def ids(users: list[Identity]) -> list[str]:
    return [user.user_id.object_id for user in users]


def keys(users: list[Identity]) -> list[str]:
    return [str(user.user_id) for user in users]


def shown(admin: Admin, **query: str) -> list[str]:
    """Return the keys of the users on all pages."""
    return [key_of(row) for rows in list_rows_of_pages(admin, **query) for row in rows]


def test_api_lists_every_user_once_newest_first(seeded: list[Identity], admin: Admin) -> None:
    listed = list(list_users(admin))
    assert [user["objectId"] for user in listed] == ids(seeded)
    assert all(after["createdAt"] <= before["createdAt"] for before, after in pairwise(listed))
    first = listed[0]
    assert admin.get_user(str(seeded[0].user_id)) == first
    assert first["communicationUserId"] == seeded[0].acs_user_id
    assert first["blocked"] is seeded[0].blocked
    assert first["createdAt"] == seeded[0].created_at.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_pages_show_fifty_users_with_their_data(seeded: list[Identity], admin: Admin) -> None:
    pages = list(list_rows_of_pages(admin))
    assert [len(rows) for rows in pages] == [PAGE, PAGE, COUNT - 2 * PAGE]
    for row, user in zip([row for rows in pages for row in rows], seeded, strict=True):
        assert key_of(row) == str(user.user_id)
        text = row.get_text(" ", strip=True)
        for part in (user.name, user.username, user.acs_user_id, "Blocked" if user.blocked else "Active"):
            assert part is not None
            assert part in text


@pytest.mark.parametrize("blocked", [False, True])
def test_status_filters_the_list(seeded: list[Identity], admin: Admin, *, blocked: bool) -> None:
    expected = [user for user in seeded if user.blocked == blocked]
    assert expected
    status = "blocked" if blocked else "active"
    assert find(admin, status=status) == ids(expected)
    assert shown(admin, status=status) == keys(expected)


def test_search_and_status_filters_combine(seeded: list[Identity], admin: Admin) -> None:
    user = next(user for user in seeded if user.blocked)
    assert find(admin, q=user.username, status="blocked") == [user.user_id.object_id]
    assert find(admin, q=user.username, status="active") == []
    assert find(admin, q=user.user_id.object_id, status="active") == []
    assert find(admin, q=str(user.acs_user_id), status="active") == []


def test_page_sorts_by_name_on_request(seeded: list[Identity], admin: Admin) -> None:
    names = {str(user.user_id): user.name for user in seeded}
    listed = shown(admin, sort="name")
    assert sorted(listed) == sorted(names)
    firsts = [names[key].split()[0] for key in listed]
    plain = [name for name in firsts if name.isascii()]
    assert plain == sorted(plain)
    assert firsts.index("Dmitri") < firsts.index("Élodie") < firsts.index("Fatima")  # not after Z


def test_shorter_name_comes_first(own: OwnAzure, admin: Admin) -> None:
    mark = f"zz{uuid.uuid4().hex[:8]}"
    rests = ("a b", "", "-a", " b", "a", "_", "1", ".")
    people = {own.new_user(name=f"{mark}{rest}").key: rest for rest in rests}
    listed = [people[key] for key in shown(admin, q=mark)]
    assert listed == ["", " b", "-a", ".", "1", "_", "a", "a b"]
    for key in people:
        admin.do("api", key, "delete")


def test_page_shows_users_of_one_tenant(own: OwnAzure, seeded: list[Identity], admin: Admin) -> None:
    first, second = own.azure.env["ENTRA_ALLOWED_TENANTS"], str(uuid.uuid4())
    others = seed_users(own.azure.env, PAGE + 10, tenant_id=second, blocked=0.3)
    others.sort(key=lambda user: user.created_at, reverse=True)
    with Service({**own.service.env, "ENTRA_ALLOWED_TENANTS": f"{first},{second}"}) as service:
        there = Admin(admin.person.at(service.url))
        assert shown(there, tenant=second) == keys(others)
        assert shown(there, tenant=first) == keys(seeded)
        blocked = keys([user for user in others if user.blocked])
        assert shown(there, tenant=second, status="blocked") == blocked
        assert set(shown(there, tenant=second, sort="name")) == set(keys(others))
        assert shown(there, tenant=second, q=seeded[0].username) == []
        assert len(shown(there)) == len(seeded) + len(others)
        choice = BeautifulSoup(there.person.get("/admin/users").text, "html.parser").select("#tenant option")
        assert [option.get_text() for option in choice][1:] == [first, second]
    for user in others:
        own.tables.get_table_client("identities").delete_entity(user.user_id.object_id, second)
    assert find(admin) == ids(seeded)


@pytest.mark.parametrize("query", [{}, {"status": "active"}], ids=str)
def test_cursor_continues_only_its_list(seeded: list[Identity], admin: Admin, query: dict[str, str]) -> None:
    first = admin.person.get("/api/admin/users", params=query).json()
    assert first["next"]
    cursor = {"cursor": first["next"]}
    second = admin.person.get("/api/admin/users", params={**query, **cursor}).json()
    assert second["users"]
    for same in (cursor, {"q": "", "status": "", **cursor}):
        assert admin.person.get("/api/admin/users", params=same).json()["users"] == second["users"]
    for other in ({"status": "blocked"}, {"q": "somebody else"}):
        response = admin.person.get("/api/admin/users", params={**query, **other, **cursor})
        assert_problem(response, 400, "invalid_request")
    assert admin.person.get("/admin/users", params=cursor).status_code == 400, "it is an API cursor"


def test_users_are_listed_once_during_changes(own: OwnAzure, seeded: list[Identity], admin: Admin) -> None:
    deleted: set[str] = set()
    toggled: set[str] = set()
    remaining = keys(seeded)

    def change() -> None:
        """Add a user; delete, and block or unblock, one already listed and one not yet listed."""
        own.new_user()
        here = [key for key in remaining if key not in deleted | toggled]
        for key in (here[0], here[-1]):
            admin.do("api", key, "delete")
            if admin.fetch_user(key).status_code == 200:  # a block outlasts deletion
                admin.do("api", key, "unblock")
            deleted.add(key)
        for key in (here[1], here[-2]):
            admin.do("api", key, "unblock" if admin.get_user(key)["blocked"] else "block")
            toggled.add(key)

    listed = [f"{user['tenantId']}/{user['objectId']}" for user in list_users(admin, change)]
    assert len(deleted) == len(toggled) == 4
    assert len(listed) == len(set(listed))
    assert set(remaining) - deleted <= set(listed)
    assert toggled <= set(listed)
