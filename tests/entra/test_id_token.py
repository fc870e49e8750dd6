"""Optional ID token claims: valid names, roles and hints are kept, malformed ones are ignored."""

import re

import pytest
from flask import Flask

from tests.support.admin_client import ROLE, Admin
from tests.support.commands import run_command
from tests.support.local_azure import LocalAzure
from tests.support.own_azure import World
from tests.support.pages import read_page
from tests.support.person import Person
from tests.support.rows import wait_until_indexed

HARMLESS: dict[str, dict[str, object]] = {
    "no valid-from": {"nbf": None},
    "no names": {"name": None, "preferred_username": None},
    "names of another type": {"name": {"a": 1}, "preferred_username": 5},
    "name of control characters": {"name": "\ud800\x00a\u202eb\r\nc\x1b[31m"},
    "user name of control characters": {"preferred_username": "\u0000"},
    "roles of another type": {"roles": "TrustedService.Admin"},
    "roles of mixed types": {"roles": [5, None, ["TrustedService.Admin"], {"TrustedService.Admin": 1}]},
    "sid of another type": {"sid": 5},
    "sid of a lone surrogate": {"sid": "\ud800"},
    "sid of 1 MB": {"sid": "s" * (1 << 20)},
    "no sid": {"sid": None},
    "hint of another type": {"login_hint": ["a"]},
    "hint of 100 kB": {"login_hint": "h" * 100_000},
    "hint of control characters": {"login_hint": "a\x00\r\n\ud800"},
    "subject of another type": {"sub": 5},
}


@pytest.mark.parametrize("case", HARMLESS)
def test_malformed_optional_claims_are_ignored(azure: LocalAzure, person: Person, case: str) -> None:
    azure.tamper("claims", claims=HARMLESS[case])
    assert person.sign_in().status_code == 302
    user = person.me()["user"]
    assert (user["tenantId"], user["objectId"]) == (person.account.tenant_id, person.account.object_id)
    assert user["roles"] == []
    assert user["name"].isprintable()
    assert user["username"].isprintable()
    assert person.get("/").status_code == 200
    assert person.sign_out().status_code == 303


def test_roles_come_from_the_token(azure: LocalAzure, person: Person) -> None:
    many: list[object] = [f"Role{number}" for number in range(100)]
    odd: list[object] = [5, None, [ROLE], {ROLE: 1}, "x" * 200]
    tokens: list[list[object]] = [[ROLE], [*many, ROLE], [ROLE, *many, ROLE], [*odd, ROLE], [*odd, *many], []]
    tokens += [["Reader", "Writer"], [f"Reader {ROLE}"], [ROLE.lower()], [" ", ""], ['"', "["]]
    for roles in tokens:
        azure.tamper("claims", claims={"roles": roles})
        assert person.sign_in().status_code == 302
        assert person.me()["user"]["roles"] == [ROLE] * (ROLE in roles), roles
        assert person.get("/admin/users").status_code == (200 if ROLE in roles else 403)


NAMELESS: list[tuple[dict[str, object], str, str, str]] = [
    ({}, "", "", "{oid}"),
    ({"name": "", "preferred_username": " "}, "", "", "{oid}"),
    ({"name": "\u3000\u00a0", "preferred_username": "\u200b"}, "", "", "{oid}"),
    ({"name": ["Ada"], "preferred_username": {"a": "b"}}, "", "", "{oid}"),
    ({"email": "ada@home.example"}, "ada@home.example", "", "ada@home.example"),
    ({"upn": "ada@contoso.example"}, "", "ada@contoso.example", "ada@contoso.example"),
    ({"given_name": "Ada"}, "Ada", "", "Ada"),
    ({"given_name": "Ada", "family_name": "King", "upn": "a@b.c"}, "Ada King", "a@b.c", "Ada King"),
    ({"given_name": "A" * 300, "family_name": "B"}, "A" * 256, "", "A" * 256),
    ({"name": 5, "preferred_username": "ada@b.example"}, "", "ada@b.example", "ada@b.example"),
]


@pytest.mark.parametrize(("claims", "name", "username", "shown"), NAMELESS)
def test_missing_name_has_a_readable_substitute(
    world: World, person: Person, claims: dict[str, object], name: str, username: str, shown: str
) -> None:
    shown = shown.format(oid=person.account.object_id)
    world.azure.tamper("claims", claims={"name": None, "preferred_username": None} | claims)
    person.signed_in().get_token()
    user = person.me()["user"]
    assert (user["name"], user["username"]) == (name, username)
    page = read_page(person, "/")
    assert page.h1 is not None
    assert page.h1.get_text() == f"Hello, {shown}"
    assert shown.startswith(page.select("nav span")[0].get_text()) or username
    assert all(fact.get_text(strip=True) for fact in read_page(person, "/account").select("dd"))
    wait_until_indexed(world.tables, person.account.object_id)
    for path in (f"/admin/users/{person.key}", f"/admin/users?q={person.account.object_id}"):
        assert shown in read_page(world.admin.person, path).select("main")[0].get_text()


def test_nameless_administrator_is_shown_by_id(world: World, person: Person, application: Flask) -> None:
    world.azure.tamper("claims", claims={"name": None, "preferred_username": None, "roles": [ROLE]})
    admin, target = Admin(person.signed_in()), world.new_user()
    person.get_token()
    wait_until_indexed(world.tables, person.account.object_id)
    listed = run_command(application, "users", "list", "--q", person.account.object_id).output
    assert re.search(rf"^- +- +{person.key} ", listed, re.MULTILINE)
    admin.do("page", target, "revoke")
    trail = read_page(admin.person, "/admin/audit", target=target.key).select("td[data-label=Who]")
    assert {person.key} == {cell.get_text("|").split("|")[0] for cell in trail[:2]}


def test_markup_in_name_is_escaped(azure: LocalAzure, person: Person) -> None:
    claims: dict[str, object] = {"name": "<script>alert(1)</script>", "preferred_username": '"><img src=x>'}
    azure.tamper("claims", claims=claims)
    assert person.sign_in().status_code == 302
    page = person.get("/").text
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
