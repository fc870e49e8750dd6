"""Several tabs of one browser that sign in side by side, and one callback that arrives many times."""

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

MOST_FLOWS = 5
LONGEST_NEXT = 500
LETTERS = "".join(Random(1).choices(string.ascii_letters, k=LONGEST_NEXT - 10))  # noqa: S311 - nothing secret


def test_two_tabs_end_signed_in_whichever_instance_answers(other_service: Service, person: Person) -> None:
    first, elsewhere = person.start_sign_in("/?tab=1"), person.at(other_service.url)
    second = elsewhere.start_sign_in("/?tab=2")
    person.http.cookies.update(elsewhere.http.cookies)
    for callback, url, target in ((second, person.url, "/?tab=2"), (first, other_service.url, "/?tab=1")):
        response = person.finish_sign_in(callback.replace(person.url, url))
        assert (response.status_code, response.headers["Location"]) == (302, target)
        assert person.is_signed_in()
        assert person.at(other_service.url).is_signed_in()
    assert flow_cookies(person) == {}


def test_last_of_two_tabs_decides_the_account(world: World, person: Person) -> None:
    somebody = world.new_person()
    somebody.http = person.http
    callbacks = [person.start_sign_in(), somebody.start_sign_in()]
    for callback, owner in zip(callbacks, (person, somebody), strict=True):
        assert person.finish_sign_in(callback).status_code == 302
        assert person.me()["user"]["objectId"] == owner.account.object_id


def test_only_newest_flows_are_kept(person: Person) -> None:
    callbacks = []
    for number in range(MOST_FLOWS + 3):
        callbacks.append(person.start_sign_in(f"/?tab={number}"))
        assert len(flow_cookies(person)) <= MOST_FLOWS
    for callback in callbacks[-MOST_FLOWS:]:
        assert person.finish_sign_in(callback).status_code == 302
        assert person.is_signed_in()
    assert_error_page(person.finish_sign_in(callbacks[0]), 400)
    assert person.is_signed_in()


@pytest.mark.parametrize(("tabs", "next_path"), [(24, "/?restored=1"), (12, f"/?q={LETTERS}")], ids=[24, 12])
def test_simultaneous_tabs_all_end_signed_in(person: Person, tabs: int, next_path: str) -> None:
    # None of them knows of the others' cookies, so nothing bounds these but their size.
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
