"""Every route that does work has a limit: for users on their own account, for administrators, for logouts."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
import requests
from azure.data.tables import TableServiceClient
from flask import Flask
from flask_limiter.util import get_qualified_name

from tests.support.admin_client import bearer, call
from tests.support.concurrency import repeat, run_concurrently
from tests.support.local_azure import LocalAzure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import list_rows
from tests.support.service import Service
from tests.support.storage_proxy import StorageProxy
from trusted_service.web.security.audiences import Audience, audience_of
from trusted_service.web.security.rate_limits import limiter

LIMIT, SIGN_INS, THREADS = 10, 12, 8
LOOP_SECONDS = 4.0
OPEN_TO_ALL = {
    "static": "files of this site, from the disk",
    "bootstrap.static": "files of this site, from the disk",
    "health.healthz": "calls nothing",
    "health.readyz": "its checks are cached for all",
    "openapi.openapi": "calls nothing",
    "auth.sign_out": "nobody is kept signed in; each session can be ended once",
}
"""The routes without a limit of their own, and why; those for callers have at least the usual one."""

Send = Callable[[], requests.Response]


@pytest.fixture(scope="module")
def strict(settings: dict[str, str]) -> Iterator[Service]:
    limits = {"RATE_LIMIT_ACCOUNT": f"{LIMIT} per minute", "RATE_LIMIT_SIGN_IN": f"{SIGN_INS} per minute"}
    with Service(settings | limits) as running:
        yield running


def statuses(sends: Sequence[Send]) -> Counter[int]:
    return Counter(send().status_code for send in sends)


def own_actions(person: Person) -> list[Send]:
    """Everything that users do to their own account, in ways that leave them signed in."""
    own, session = bearer(person.azure, person), person.csrf_headers()
    return [
        partial(person.post, "/api/me/revoke", headers=session),
        partial(call, "POST", f"{person.url}/api/me/revoke", headers=own),
        partial(person.post, "/account/revoke", headers=session),
        partial(person.get, "/api/me/export"),
        partial(call, "GET", f"{person.url}/api/me/export", headers=own),
        partial(person.post, "/account/end-session", headers=session),
        partial(person.post, "/account/end-session", headers=session, data={"session": "x"}),
    ]


def test_revoke_loop_is_stopped_before_its_effects(
    azure: LocalAzure, tables: TableServiceClient, strict: Service, new_person: Callable[..., Person]
) -> None:
    person = new_person(at=strict).signed_in()
    assert person.token().status_code == 200
    csrf = person.csrf_headers()
    azure.reset_calls()
    browsers = [person.at(strict.url) for _ in range(THREADS)]
    sends = [partial(browser.post, "/api/me/revoke", headers=csrf) for browser in browsers]
    rounds = run_concurrently([partial(repeat, send, LOOP_SECONDS) for send in sends])
    refused = [response for responses in rounds for response in responses if response.status_code != 204]
    assert sum(map(len, rounds)) - len(refused) <= LIMIT
    assert len(refused) > 2 * LIMIT
    for response in refused:
        assert_problem(response, 429, "rate_limited")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert azure.count_calls("acs")["revoke"] <= LIMIT
    rows = list_rows(tables, "audit", "TargetObjectId", person.account.object_id)
    assert sum(row["Action"] == "revoke" for row in rows) <= 4 * LIMIT  # start and outcome, each twice


def test_account_limit_counts_pages_and_api_together(
    strict: Service, new_person: Callable[..., Person]
) -> None:
    person, other = (new_person(at=strict).signed_in() for _ in range(2))
    actions, csrf = own_actions(person), person.csrf_headers()
    assert set(statuses([*actions, *actions][:LIMIT])) <= {200, 204, 303}
    more: list[Send] = [partial(person.erase, csrf), partial(person.post, "/account/delete", headers=csrf)]
    for send in [*actions, *more]:
        response = send()
        if "/account/" in str(response.request.path_url):
            assert_error_page(response, 429)
        else:
            assert_problem(response, 429, "rate_limited")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    again = person.in_new_browser()  # another session of the same user
    assert again.post("/api/me/revoke", headers=again.csrf_headers()).status_code == 429
    assert set(statuses(own_actions(other))) <= {200, 204, 303}
    assert person.token().status_code == 200
    assert person.get("/account").status_code == 200
    assert person.sign_out().status_code == 303
    assert not person.is_signed_in()


def test_refused_forgeries_use_up_nothing(strict: Service, new_person: Callable[..., Person]) -> None:
    person = new_person(at=strict).signed_in()
    forged: list[Send] = [partial(person.post, "/api/me/revoke"), partial(person.post, "/account/delete")]
    forged.append(partial(person.get, "/api/me/export", headers={"Sec-Fetch-Site": "cross-site"}))
    assert set(statuses(forged * LIMIT)) == {403}
    assert person.post("/api/me/revoke", headers=person.csrf_headers()).status_code == 204


def test_whole_office_signs_out_at_once(strict: Service, storage_proxy: StorageProxy) -> None:
    logout = partial(requests.get, f"{strict.url}/auth/front-channel-logout?sid=x", timeout=30)
    for response in [logout() for _ in range(3 * SIGN_INS)]:
        assert response.status_code == 200
        assert storage_proxy.calls_for(response)


def test_every_route_has_a_limit_or_reason(application: Flask) -> None:
    """Callers are counted on every route (`limiter`'s default), and each writing route has its own limit."""
    manager, without = limiter.limit_manager, set[str]()
    assert manager.default_limits
    for rule in application.url_map.iter_rules():
        view = application.view_functions[rule.endpoint]
        name, audience = get_qualified_name(getattr(view, "__wrapped__", view)), audience_of(view)
        is_counted = audience not in (Audience.PUBLIC, None) and not manager._route_exemptions.get(name)
        writes = not (rule.methods or set()) <= {"GET", "HEAD", "OPTIONS"}
        if name not in manager._decorated_limits and (writes or not is_counted):
            without.add(rule.endpoint)
    assert without == OPEN_TO_ALL.keys()


def test_files_are_counted_apart_from_actions(application: Flask) -> None:
    """Another site may send an administrator's browser to a file again and again."""
    scopes: dict[bool, set[object]] = {True: set(), False: set()}
    for rule in application.url_map.iter_rules():
        if audience_of(view := application.view_functions[rule.endpoint]) is Audience.ADMINISTRATOR:
            name = get_qualified_name(getattr(view, "__wrapped__", view))
            for group in limiter.limit_manager._decorated_limits.get(name, ()):
                scopes[rule.rule.endswith(".csv")] |= {limit.scope for limit in group}
    assert scopes == {True: {"exports"}, False: {"administration"}}
