"""GET /api/me: who the caller is, and the value that unsafe requests carry."""

from collections.abc import Callable

import pytest

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy


def test_me_answers_to_the_letter_of_the_contract(new_person: Callable[..., Person]) -> None:
    person = new_person(name="Ada Exämple", roles=["TrustedService.Admin", "Another.Role"])
    person.sign_in()
    answer = person.get("/api/me")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json()
    assert list(document) == ["user", "communicationUserId", "csrfToken"]
    assert document["user"] == {
        "tenantId": person.account.tenant_id,
        "objectId": person.account.object_id,
        "name": "Ada Exämple",
        "username": person.account.username,
        "roles": ["TrustedService.Admin", "Another.Role"],
    }
    assert list(document["user"]) == ["tenantId", "objectId", "name", "username", "roles"]
    assert isinstance(document["csrfToken"], str)


def test_me_has_no_roles_and_no_identity_to_begin_with(signed_in: Person) -> None:
    document = signed_in.me()
    assert document["user"]["roles"] == []
    assert document["communicationUserId"] is None


def test_me_makes_no_identity(azure: LocalAzure, storage_proxy: StorageProxy, signed_in: Person) -> None:
    answer = signed_in.get("/api/me")
    assert azure.calls_for(answer) == []
    assert {call.method for call in storage_proxy.calls_for(answer)} == {"GET"}


def test_me_names_the_identity_after_the_first_token(signed_in: Person) -> None:
    token = signed_in.token()
    assert signed_in.me()["communicationUserId"] == token.json()["user"]["communicationUserId"]


def test_me_names_the_identity_in_another_session_too(signed_in: Person) -> None:
    identity = signed_in.token().json()["user"]["communicationUserId"]
    elsewhere = Person(signed_in.azure, signed_in.url, signed_in.account)
    elsewhere.sign_in()
    assert elsewhere.me()["communicationUserId"] == identity


def test_me_gives_one_csrf_value_for_each_session(regular: Person, other_service: Service) -> None:
    here = regular.me()["csrfToken"]
    assert regular.me()["csrfToken"] == here
    assert regular.at(other_service.url).me()["csrfToken"] == here
    elsewhere = Person(regular.azure, regular.url, regular.account)
    elsewhere.sign_in()
    assert elsewhere.me()["csrfToken"] != here


def test_me_holds_no_secret_of_the_session(regular: Person) -> None:
    text = regular.get("/api/me").text
    for cookie in regular.http.cookies:
        assert cookie.value
        assert cookie.value not in text


@pytest.mark.parametrize(
    "headers", [{}, {"Accept": "text/html"}, {"Cookie": "session=x"}, {"Cookie": "session="}]
)
def test_me_signed_out_is_refused(person: Person, headers: dict[str, str]) -> None:
    assert_problem(person.get("/api/me", headers=headers), 401, "not_signed_in")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_me_takes_no_other_method(regular: Person, method: str) -> None:
    answer = regular.http.request(method, f"{regular.url}/api/me", timeout=10)
    assert_problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["Allow"]


def test_me_never_stands_as_script_or_in_a_foreign_page(regular: Person) -> None:
    answer = regular.get("/api/me", params={"callback": "run"}, headers={"Origin": "https://evil.example"})
    assert answer.text.startswith("{")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("Access-Control-")]
