"""Sessions live in the storage: nothing there signs anybody in, and nobody is signed in without it."""

from collections.abc import Callable

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.cookies import read_cookies, send_cookies
from tests.support.log import assert_not_logged
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import get_session, list_identities, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import timed, wait_until


def test_tables_and_log_hold_nothing_to_sign_in_with(
    tables: TableServiceClient, service: Service, person: Person
) -> None:
    callback = person.start_sign_in()
    assert person.finish_sign_in(callback).status_code == 302
    token = person.token().json()["token"]
    cookie, csrf = person.http.cookies["session"], person.me()["csrfToken"]
    session_id, signature = cookie.split(".")
    sid = dict(pair.split("=", 1) for pair in callback.partition("?")[2].split("&"))["session_state"]
    secrets = [cookie, session_id, session_id[32:], signature, csrf, sid, token, token.split(".")[2]]
    wait_until(lambda: bool(get_session(tables, person).get("AcsUserId")))
    stored = ""
    for table in tables.list_tables():
        stored += str(list(tables.get_table_client(table.name).list_entities()))
    assert person.account.object_id in stored
    for secret in (*secrets, "eyJ0", "opaque."):
        assert secret not in stored
    assert_not_logged(service, *secrets)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=400),
        Fault(kind="status", status=403),
        Fault(kind="status", status=404),
        Fault(kind="status", status=412),
        Fault(kind="status", status=429, retry_after="29"),
        Fault(kind="status", status=500),
        Fault(kind="status", status=503, retry_after="31"),
        Fault(kind="reset"),
        Fault(kind="half"),
        Fault(kind="hang"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_storage_that_fails_signs_nobody_in_or_out(
    storage_proxy: StorageProxy, signed_in: Person, fault: Fault
) -> None:
    csrf = signed_in.me()["csrfToken"]
    callback = signed_in.start_sign_in()
    storage_proxy.plant(fault)
    calls: list[Callable[[], requests.Response]] = [lambda: signed_in.get("/")]
    if fault.kind != "hang":
        calls += [
            lambda: signed_in.finish_sign_in(callback),
            lambda: signed_in.post("/auth/sign-out", data={"csrf_token": csrf}),
        ]
    for call in calls:
        answer, seconds = timed(call)
        assert seconds < 15
        assert_error_page(answer, 503)
        assert answer.headers["Retry-After"] == (fault.retry_after or "5")
        assert "session" not in read_cookies(answer)
    storage_proxy.clear()
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id


def test_storage_that_fails_is_not_asked_about_strangers(
    storage_proxy: StorageProxy, service: Service, person: Person
) -> None:
    storage_proxy.plant(Fault(kind="status", status=500))
    assert person.get("/").status_code == 200
    assert person.get("/api/me").status_code == 401
    assert send_cookies(f"{service.url}/api/me", "session=forged").status_code == 401
    callback = person.start_sign_in()
    assert_error_page(person.finish_sign_in(callback), 503)
    assert person.get("/api/me").status_code == 401


@pytest.mark.parametrize(("method", "table"), [("P", "sessions")])
@pytest.mark.parametrize("skip", [0, 1])
def test_sign_in_without_storage_is_503_and_leaves_no_session(
    tables: TableServiceClient,
    storage_proxy: StorageProxy,
    person: Person,
    method: str,
    table: str,
    skip: int,
) -> None:
    storage_proxy.plant(Fault(kind="status", method=method, table=table, status=500, skip=skip))
    answer = person.sign_in()
    calls = [call for call in storage_proxy.calls() if call.table == table and call.method.startswith(method)]
    if len(calls) <= skip:
        assert answer.status_code == 302  # there is no second call of that kind
        return
    assert_error_page(answer, 503)
    assert person.get("/api/me").status_code == 401
    storage_proxy.clear()
    assert list_sessions(tables, person) == []
    assert person.sign_in().status_code == 302


def test_sign_in_with_a_new_name_is_noted_or_fails_whole(
    tables: TableServiceClient, storage_proxy: StorageProxy, settled: Person
) -> None:
    account = settled.account
    members = {"tenantId": account.tenant_id, "objectId": account.object_id, "name": "New Name"}
    settled.azure.put_account(account.username, **members)
    storage_proxy.plant(Fault(kind="status", method="P", table="identities", status=500))
    answer = settled.sign_in()
    if answer.status_code != 302:  # a name is for display: it would be better not to fail over it
        assert_error_page(answer, 503)
        assert list_sessions(tables, settled) == []
    storage_proxy.clear()
    assert settled.sign_in().status_code == 302
    assert settled.me()["user"]["name"] == "New Name"
    (row,) = list_identities(tables, settled)
    assert row["Name"] == "New Name"
