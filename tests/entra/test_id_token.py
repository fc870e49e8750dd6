"""Optional ID token claims: valid names, roles and hints are kept, malformed ones are ignored."""

import pytest

from tests.support.local_azure import LocalAzure
from tests.support.person import Person

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
    tokens: list[list[object]] = [
        ["TrustedService.Admin"],
        ["Reader", "Writer"],
        ["Reader TrustedService.Admin"],
    ]
    tokens += [[" ", ""], ['"', "["], [], ["Reader", "x" * 120, "Writer"], ["Reader", "x" * 121, 5, "Writer"]]
    for roles in tokens:
        azure.tamper("claims", claims={"roles": roles})
        assert person.sign_in().status_code == 302
        kept = [role for role in roles if role not in (5, "x" * 121)]  # one is not a role, one is too long
        assert person.me()["user"]["roles"] == kept


def test_markup_in_name_is_escaped(azure: LocalAzure, person: Person) -> None:
    claims: dict[str, object] = {"name": "<script>alert(1)</script>", "preferred_username": '"><img src=x>'}
    azure.tamper("claims", claims=claims)
    assert person.sign_in().status_code == 302
    page = person.get("/").text
    assert "<script>alert" not in page
    assert "<img src=x>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
