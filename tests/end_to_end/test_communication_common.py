"""The credential of Microsoft's JavaScript clients, fed by our /api/token."""

from datetime import datetime
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.local_azure import LocalAzure
from tests.support.node import run_code, run_script
from tests.support.person import Person
from tests.support.tokens import make_token

EXPIRED = -60
ABOUT_TO_EXPIRE = 2
SNIPPET_WITH_ENDS = """
import {{ requests }} from "./as-browser.mjs";
{snippet}
const answers = [await credential.getToken().catch((error) => ({{ error: error.message }}))];
credential.dispose();
console.log(JSON.stringify({{ answers, requests }}));
"""


def run_credential(person: Person, *, csrf_token: str | None = None, **argument: object) -> dict[str, Any]:
    csrf_token = csrf_token or person.me()["csrfToken"]
    return run_script(person, "credential.mjs", {"csrfToken": csrf_token} | argument)


@pytest.mark.parametrize("first", [None, EXPIRED], ids=["none before", "an expired one before"])
def test_credential_gets_our_token_and_keeps_it(
    first: int | None, signed_in: Person, azure: LocalAzure
) -> None:
    result = run_credential(signed_in, token=None if first is None else make_token(first))
    answer, again = result["answers"]
    verdict = azure.check_token(answer["token"])
    assert verdict["valid"]
    assert verdict["identity"] == signed_in.me()["communicationUserId"]
    assert again == answer
    assert result["requests"] == {"/api/token": 1}


def test_credential_reads_the_expiry_that_we_name(signed_in: Person) -> None:
    (answer, _) = run_credential(signed_in)["answers"]
    issued = signed_in.token().json()
    (same, _) = run_credential(signed_in, token=issued["token"])["answers"]
    assert same["token"] == issued["token"]
    assert same["expiresOnTimestamp"] == datetime.fromisoformat(issued["expiresOn"]).timestamp() * 1000
    assert answer["expiresOnTimestamp"] <= same["expiresOnTimestamp"]


def test_credential_refreshes_by_itself_before_its_token_expires(
    signed_in: Person, azure: LocalAzure
) -> None:
    old = make_token(ABOUT_TO_EXPIRE)
    result = run_credential(signed_in, token=old, proactively=True)
    (answer, _) = result["answers"]
    assert answer["token"] != old
    assert azure.check_token(answer["token"])["valid"]
    assert result["requests"] == {"/api/token": 1}


def test_credential_of_an_ended_session_rejects_with_the_status(signed_in: Person) -> None:
    csrf_token = signed_in.me()["csrfToken"]
    cookies = dict(signed_in.http.cookies)
    assert signed_in.sign_out().status_code == 303
    signed_in.http.cookies.update(cookies)
    result = run_credential(signed_in, csrf_token=csrf_token)
    assert [answer["error"] for answer in result["answers"]] == ["No token: 401"] * 2
    assert result["requests"] == {"/api/token": 2}


def test_snippet_of_the_home_page_gets_a_token(home: Page, signed_in: Person, azure: LocalAzure) -> None:
    snippet = str(home.locator("#snippet").text_content())
    result = run_code(signed_in, SNIPPET_WITH_ENDS.format(snippet=snippet))
    (answer,) = result["answers"]
    verdict = azure.check_token(answer["token"])
    assert verdict["valid"]
    assert verdict["identity"] == signed_in.me()["communicationUserId"]


def test_snippet_of_the_home_page_rejects_once_signed_out(home: Page, signed_in: Person) -> None:
    snippet = str(home.locator("#snippet").text_content())
    assert signed_in.sign_out().status_code == 303
    (answer,) = run_code(signed_in, SNIPPET_WITH_ENDS.format(snippet=snippet))["answers"]
    assert "401" in answer["error"]
