"""Concurrent sign-ins in several tabs of one browser, and concurrent copies of one callback."""

import string
from functools import partial
from random import Random

import pytest

from tests.support.concurrency import run_concurrently
from tests.support.flows import flow_cookies
from tests.support.log import read_event
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.service import Service

MAX_FLOWS = 10
MAX_NEXT_LENGTH = 500
LETTERS = "".join(Random(1).choices(string.ascii_letters, k=MAX_NEXT_LENGTH - 10))  # noqa: S311 - nothing secret


def test_two_tabs_sign_in_across_instances(other_service: Service, person: Person) -> None:
    first, elsewhere = person.start_sign_in("/?tab=1"), person.at(other_service.url)
    second = elsewhere.start_sign_in("/?tab=2")
    person.http.cookies.update(elsewhere.http.cookies)
    for callback, url, target in ((second, person.url, "/?tab=2"), (first, other_service.url, "/?tab=1")):
        response = person.finish_sign_in(callback.replace(person.url, url))
        assert (response.status_code, response.headers["Location"]) == (302, target)
        assert person.is_signed_in()
        assert person.at(other_service.url).is_signed_in()
    assert flow_cookies(person) == {}


def test_last_callback_decides_the_account(world: World, person: Person) -> None:
    other = world.new_person()
    other.http = person.http
    callbacks = [person.start_sign_in(), other.start_sign_in()]
    for callback, owner in zip(callbacks, (person, other), strict=True):
        assert person.finish_sign_in(callback).status_code == 302
        assert person.me()["user"]["objectId"] == owner.account.object_id


def test_only_newest_flows_are_kept(person: Person) -> None:
    callbacks = []
    for number in range(MAX_FLOWS + 3):
        callbacks.append(person.start_sign_in(f"/?tab={number}"))
        assert len(flow_cookies(person)) <= MAX_FLOWS
    for callback in callbacks[-MAX_FLOWS:]:
        assert person.finish_sign_in(callback).status_code == 302
        assert person.is_signed_in()
    assert_error_page(person.finish_sign_in(callbacks[0]), 400)
    assert person.is_signed_in()


@pytest.mark.parametrize(("tabs", "next_path"), [(24, "/?restored=1"), (12, f"/?q={LETTERS}")], ids=[24, 12])
def test_simultaneous_tabs_all_sign_in(person: Person, tabs: int, next_path: str) -> None:
    # The tabs do not know each other's cookies, so only the cookies' size limits their number.
    def open_tab() -> tuple[Person, str]:
        tab = person.at(person.url)
        return tab, tab.start_sign_in(next_path)

    opened = run_concurrently([open_tab] * tabs)
    for tab, _ in opened:
        person.http.cookies.update(tab.http.cookies)
    assert person.get("/").status_code == 200
    for _, callback in opened:
        response = person.finish_sign_in(callback)
        assert (response.status_code, response.headers.get("Location")) == (302, next_path)
    assert person.is_signed_in()
    assert flow_cookies(person) == {}


def test_simultaneous_callbacks_sign_in_once(world: World, person: Person) -> None:
    callback = person.start_sign_in()
    copies = [person.at(person.url) for _ in range(8)]
    responses = run_concurrently([partial(copy.finish_sign_in, callback) for copy in copies])
    assert sorted(response.status_code for response in responses) == [302] + [400] * 7
    for copy, response in zip(copies, responses, strict=True):
        assert copy.get("/api/me").status_code == (200 if response.status_code == 302 else 401)
        if response.status_code == 400:
            assert_error_page(response, 400)
            event = read_event(world.service, response, "authn_login_fail")
            assert event["reason"].startswith("token-endpoint-")
    assert len(world.list_sessions(person)) == 1
