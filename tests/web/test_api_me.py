"""GET /api/me: the caller, and the CSRF value for unsafe requests."""

from collections.abc import Callable

from azure.data.tables import TableServiceClient

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy

PART = 16
"""The length of a part of a secret that counts as a leak."""


def test_me_matches_the_contract(new_person: Callable[..., Person]) -> None:
    person = new_person(name="Ada Exämple", roles=["TrustedService.Admin", "Another.Role"])
    person.sign_in()
    response = person.get("/api/me", params={"callback": "run"})  # there is no JSONP
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    document = response.json()
    assert list(document) == ["user", "communicationUserId", "csrfToken"]
    user = {
        "tenantId": person.account.tenant_id,
        "objectId": person.account.object_id,
        "name": "Ada Exämple",
        "username": person.account.username,
        "roles": ["TrustedService.Admin"],  # only those that mean something here
    }
    assert list(document["user"].items()) == list(user.items())
    assert isinstance(document["csrfToken"], str)


def test_me_creates_no_identity(azure: LocalAzure, storage_proxy: StorageProxy, signed_in: Person) -> None:
    response = signed_in.get("/api/me")
    assert response.json()["user"]["roles"] == []
    assert response.json()["communicationUserId"] is None
    assert azure.calls_for(response) == []
    assert {call.method for call in storage_proxy.calls_for(response)} == {"GET"}


def test_me_differs_only_in_csrf_value(signed_in: Person, other_service: Service) -> None:
    identities = {signed_in.token().json()["user"]["communicationUserId"] for _ in range(3)}
    here = signed_in.me()
    assert {here["communicationUserId"]} == identities
    assert signed_in.me() == signed_in.at(other_service.url).me() == here
    elsewhere = Person(signed_in.azure, signed_in.url, signed_in.account)
    elsewhere.sign_in()
    other = elsewhere.me()
    assert other["csrfToken"] != here["csrfToken"]
    assert other | {"csrfToken": here["csrfToken"]} == here


def test_me_contains_no_session_secret(tables: TableServiceClient, shared_user: Person) -> None:
    text = shared_user.get("/api/me").text
    secrets = [str(cookie.value) for cookie in shared_user.http.cookies]
    secrets += [str(row["RowKey"]) for row in list_sessions(tables, shared_user)]
    assert len(secrets) >= 2
    for secret in secrets:
        parts = {secret[start : start + PART] for start in range(len(secret) - PART + 1)}
        assert parts
        assert not {part for part in parts if part in text}
