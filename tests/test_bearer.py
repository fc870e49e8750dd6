"""The API with an Entra ID access token: what it gives, and which headers it takes."""

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.desk import bearer, call
from tests.support.identity_rows import get_identity
from tests.support.local_azure import LocalAzure
from tests.support.log import assert_not_logged
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy
from tests.support.together import run_together, wait_until


@pytest.fixture
def headers(azure: LocalAzure, person: Person) -> dict[str, str]:
    """The token of a person who has never been here."""
    return bearer(azure, person)


def me(person: Person, headers: dict[str, str]) -> requests.Response:
    return call("GET", f"{person.url}/api/me", headers=headers)


def token(person: Person, headers: dict[str, str]) -> requests.Response:
    return call("POST", f"{person.url}/api/token", headers=headers)


def test_me_is_whom_the_token_speaks_for(
    azure: LocalAzure, tables: TableServiceClient, new_person: Callable[..., Person]
) -> None:
    person = new_person(name="Zoë Krüger", roles=["Reader", "Writer"])
    headers = bearer(azure, person)
    expected = {
        "user": {
            "tenantId": person.account.tenant_id,
            "objectId": person.account.object_id,
            "name": "Zoë Krüger",
            "username": person.account.username,
            "roles": ["Reader", "Writer"],
        },
        "communicationUserId": None,
        "csrfToken": None,
    }
    assert me(person, headers).json() == expected
    assert token(person, headers).status_code == 200
    answer = me(person, headers)
    assert answer.json() == expected | {"communicationUserId": get_identity(tables, person)}
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers


def test_token_is_for_the_one_identity_that_the_browser_has_too(azure: LocalAzure, settled: Person) -> None:
    by_browser, by_bearer = settled.token(), token(settled, bearer(azure, settled))
    assert by_bearer.json()["user"] == by_browser.json()["user"]
    assert list(by_bearer.json()) == ["token", "expiresOn", "user", "scopes"]
    check = azure.check_token(by_bearer.json()["token"])
    assert (check["valid"], check["identity"]) == (True, by_browser.json()["user"]["communicationUserId"])


def test_fifty_first_tokens_at_once_are_of_one_identity(
    azure: LocalAzure, tables: TableServiceClient, person: Person, headers: dict[str, str]
) -> None:
    before = set(azure.list_identities())
    answers = run_together([lambda: token(person, headers)] * 50)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["user"]["communicationUserId"] for answer in answers} == {
        get_identity(tables, person)
    }
    wait_until(lambda: set(azure.list_identities()) - before == {get_identity(tables, person)})
    assert all(azure.check_token(answer.json()["token"])["valid"] for answer in answers)


def test_tokens_take_as_few_calls_as_can_be(
    azure: LocalAzure, storage_proxy: StorageProxy, person: Person, headers: dict[str, str]
) -> None:
    def calls_of(answer: requests.Response) -> list[tuple[str, str]]:
        calls = storage_proxy.calls_for(answer)
        return [(call.method, call.table) for call in calls if call.table != "audit"]

    first = token(person, headers)
    assert first.status_code == 200
    wait_until(lambda: any(call.table == "audit" for call in storage_proxy.calls()))
    assert calls_of(first)[:2] == [("GET", "identities"), ("POST", "identities")]
    warm = token(person, headers)
    assert warm.status_code == 200
    assert calls_of(warm) == [("GET", "identities")]
    assert azure.calls_for(warm) == ["issue"]


def test_cookie_is_ignored_where_the_header_is(azure: LocalAzure, signed_in: Person, regular: Person) -> None:
    answer = signed_in.get("/api/me", headers=bearer(azure, regular))
    assert answer.json()["user"]["objectId"] == regular.account.object_id
    assert answer.json()["csrfToken"] is None
    answer = signed_in.post("/api/token", headers=bearer(azure, regular))
    assert answer.json()["user"] == regular.token().json()["user"]


@pytest.mark.parametrize(
    "value",
    [
        *("", "Bearer", "Basic YTpi", "Bearer a b", "Bearer a,b", "Bearer a, Bearer b"),
        *(
            "Token x",
            "x.y.z",
            "Bearer =",
            "Bearer é".encode().decode("latin-1"),
            "Bearer x.y.z",
            "bearer ...",
        ),
        *("Bearer " + "x" * 8000, "Digest username=x", "Negotiate x", "Bearer null", "Bearer undefined"),
        # pragma: allowlist nextline secret (made up)
        "Bearer eyJhbGciOiJSUzI1NiJ9.e30.",
    ],
)
def test_malformed_header_is_401_whatever_the_cookie_says(signed_in: Person, value: str) -> None:
    for method, path in (("GET", "/api/me"), ("POST", "/api/token"), ("DELETE", "/api/me")):
        answer = signed_in.http.request(
            method,
            signed_in.url + path,
            headers={"Authorization": value.encode("latin-1"), **signed_in.csrf_headers()},
            timeout=30,
        )
        problem = assert_problem(answer, 401, "invalid_token")
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert len(value) < 3 or value not in problem["detail"]
    assert signed_in.get("/api/me").status_code == 200


def test_scheme_is_read_whatever_its_case(person: Person, headers: dict[str, str]) -> None:
    _, _, value = headers["Authorization"].partition(" ")
    for spelling in (f"bearer {value}", f"BEARER   {value}", f"Bearer {value} "):
        assert me(person, {"Authorization": spelling}).status_code == 200


@pytest.mark.parametrize("others", [["Bearer x.y.z"], ["Basic YTpi"], None])
def test_several_headers_are_401(person: Person, headers: dict[str, str], others: list[str] | None) -> None:
    lines = [headers["Authorization"], *([headers["Authorization"]] if others is None else others)]
    for order in (lines, lines[::-1]):
        assert raw_status(person.url, [f"Authorization: {line}" for line in order]) == 401


def raw_status(url: str, lines: list[str]) -> int:
    """The status of GET /api/me with exactly these header lines."""
    address = urlsplit(url)
    text = "\r\n".join(
        ["GET /api/me HTTP/1.1", f"Host: {address.netloc}", "Connection: close", *lines, "", ""]
    )
    with socket.create_connection(("127.0.0.1", address.port or 80), timeout=30) as connection:
        connection.sendall(text.encode("latin-1"))
        return int(connection.makefile("rb").readline().split()[1])


def test_token_in_the_query_or_body_is_no_token(person: Person, headers: dict[str, str]) -> None:
    value = headers["Authorization"].split()[1]
    for name in ("access_token", "token", "authorization"):
        answer = call("GET", f"{person.url}/api/me?{name}={value}", headers={})
        assert_problem(answer, 401, "not_signed_in")
        answer = call("POST", f"{person.url}/api/token", headers={}, data={name: value})
        assert_problem(answer, 401, "not_signed_in")


def test_no_csrf_value_is_needed_whatever_the_origin(azure: LocalAzure, settled: Person) -> None:
    headers = bearer(azure, settled) | {"Origin": "https://attacker.example"}
    answer = token(settled, headers)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers  # CORS_ORIGINS is empty here


def test_nothing_of_a_token_is_logged(service: Service, person: Person, headers: dict[str, str]) -> None:
    issued = token(person, headers).json()["token"]
    assert_not_logged(service, headers["Authorization"].split()[1], issued)
