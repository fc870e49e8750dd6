"""Whose session it is: a new id at each sign-in, and signatures that outlive a change of keys."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.cookies import send_cookies
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service

NEW_KEY = "another-key-for-tests-0123456789abc"


@pytest.fixture(scope="module")
def new_key(settings: dict[str, str], service: Service) -> Iterator[Service]:
    """An instance with a new key that still knows the old one."""
    keys = {"SECRET_KEY": NEW_KEY, "SECRET_KEY_FALLBACKS": service.env["SECRET_KEY"]}
    with Service(settings | keys | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.fixture(scope="module")
def new_key_alone(settings: dict[str, str], service: Service) -> Iterator[Service]:
    with Service(settings | {"SECRET_KEY": NEW_KEY, "PUBLIC_URL": service.url}) as running:
        yield running


def test_session_id_is_new_at_every_sign_in(
    service: Service, new_person: Callable[..., Person], person: Person
) -> None:
    # Somebody plants a session of their own, or an id that they made up, in the victim's browser.
    attacker = new_person()
    assert attacker.sign_in().status_code == 302
    seen: set[str] = set()
    for planted in (attacker.http.cookies["session"], "0" * 96, f"{'0' * 96}.{'A' * 43}"):
        person.http.cookies.clear()
        person.http.cookies.set("session", planted, domain="localhost.local", path="/")
        assert person.sign_in().status_code == 302
        value = person.http.cookies.get("session", domain="localhost.local")
        assert value not in (planted, *seen)
        assert value is not None
        assert value.split(".")[0][32:] not in planted
        seen.add(value)
        assert person.me()["user"]["objectId"] == person.account.object_id
        assert send_cookies(f"{service.url}/api/me", f"session={planted}").status_code == 401


def test_key_rotation_keeps_sessions_and_csrf_values(new_key: Service, signed_in: Person) -> None:
    csrf = signed_in.csrf_headers()
    person = signed_in.at(new_key.url)
    assert person.get("/api/me").status_code == 200
    assert person.token(csrf=csrf).status_code == 200


def test_key_rotation_keeps_sign_ins_under_way(service: Service, new_key: Service, person: Person) -> None:
    callback = person.start_sign_in()
    assert person.finish_sign_in(callback.replace(service.url, new_key.url)).status_code == 302
    assert person.at(new_key.url).get("/api/me").status_code == 200
    # What is signed now is signed with the new key.
    assert person.get("/api/me").status_code == 401


def test_key_that_is_gone_ends_sessions_and_csrf_values(
    new_key: Service, new_key_alone: Service, signed_in: Person
) -> None:
    csrf = signed_in.csrf_headers()
    person = signed_in.at(new_key_alone.url)
    assert person.get("/api/me").status_code == 401
    again = signed_in.at(new_key.url)
    callback = again.start_sign_in().replace(signed_in.url, new_key.url)
    assert again.finish_sign_in(callback).status_code == 302
    assert again.at(new_key_alone.url).get("/api/me").status_code == 200
    answer = again.at(new_key_alone.url).token(csrf=csrf)
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
    assert_error_page(person.finish_sign_in(person.start_sign_in()), 400)
