"""Several tabs of one browser that sign in side by side, and one callback that arrives many times."""

import string
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from azure.data.tables import TableServiceClient

from tests.support.flows import flow_cookies
from tests.support.log import read_event
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_sessions
from tests.support.service import Service
from tests.support.together import run_together

MOST_FLOWS = 5
LONGEST_NEXT = 500
LETTERS = "".join(Random(1).choices(string.ascii_letters, k=LONGEST_NEXT - 10))  # noqa: S311 - nothing secret


def test_two_tabs_interleaved_both_end_signed_in(person: Person) -> None:
    first, second = person.start_sign_in("/?tab=1"), person.start_sign_in("/?tab=2")
    for callback, target in ((second, "/?tab=2"), (first, "/?tab=1")):
        answer = person.finish_sign_in(callback)
        assert (answer.status_code, answer.headers["Location"]) == (302, target)
        assert person.get("/api/me").status_code == 200
    assert flow_cookies(person) == {}


def test_two_tabs_end_signed_in_whichever_instance_answers(
    service: Service, other_service: Service, person: Person
) -> None:
    first = person.start_sign_in("/?tab=1")
    elsewhere = person.at(other_service.url)
    second = elsewhere.start_sign_in("/?tab=2")
    person.http.cookies.update(elsewhere.http.cookies)
    for callback, url in ((first, other_service.url), (second, service.url)):
        answer = person.finish_sign_in(callback.replace(service.url, url))
        assert answer.status_code == 302
        assert person.at(service.url).get("/api/me").status_code == 200
        assert person.at(other_service.url).get("/api/me").status_code == 200


def test_two_tabs_of_two_accounts_end_as_the_last(new_person: Callable[..., Person], person: Person) -> None:
    somebody = new_person()
    somebody.http = person.http
    callbacks = [person.start_sign_in(), somebody.start_sign_in()]
    for callback, owner in zip(callbacks, (person, somebody), strict=True):
        assert person.finish_sign_in(callback).status_code == 302
        assert person.me()["user"]["objectId"] == owner.account.object_id


def test_tabs_one_after_the_other_keep_the_newest_flows_only(person: Person) -> None:
    callbacks = []
    for number in range(MOST_FLOWS + 3):
        callbacks.append(person.start_sign_in(f"/?tab={number}"))
        assert len(flow_cookies(person)) <= MOST_FLOWS
    for callback in callbacks[-MOST_FLOWS:]:
        assert person.finish_sign_in(callback).status_code == 302
        assert person.get("/api/me").status_code == 200
    assert_error_page(person.finish_sign_in(callbacks[0]), 400)
    assert person.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    ("tabs", "next_path"),
    [(24, "/?restored=1"), (12, f"/?q={LETTERS}")],
    ids=["a restored window", "the longest targets"],
)
def test_tabs_at_the_same_moment_all_end_signed_in(person: Person, tabs: int, next_path: str) -> None:
    # None of them knows of the others' cookies, so nothing bounds these but their size.
    def open_tab() -> tuple[Person, str]:
        tab = person.at(person.url)
        return tab, tab.start_sign_in(next_path)

    opened = run_together([open_tab] * tabs)
    for tab, _ in opened:
        person.http.cookies.update(tab.http.cookies)
    assert person.get("/").status_code == 200
    for _, callback in opened:
        answer = person.finish_sign_in(callback)
        assert (answer.status_code, answer.headers.get("Location")) == (302, next_path)
    assert person.get("/api/me").status_code == 200
    assert flow_cookies(person) == {}


def test_same_callback_many_times_at_once_signs_in_once(
    service: Service, tables: TableServiceClient, person: Person
) -> None:
    callback = person.start_sign_in()
    copies = [person.at(person.url) for _ in range(8)]
    answers = run_together([partial(copy.finish_sign_in, callback) for copy in copies])
    assert sorted(answer.status_code for answer in answers) == [302] + [400] * 7
    for copy, answer in zip(copies, answers, strict=True):
        if answer.status_code == 302:
            assert copy.get("/api/me").status_code == 200
        else:
            assert_error_page(answer, 400)
            assert read_event(service, answer, "authn_login_fail")["reason"].startswith("token-endpoint-")
            assert copy.get("/api/me").status_code == 401
    assert len(list_sessions(tables, person)) == 1
