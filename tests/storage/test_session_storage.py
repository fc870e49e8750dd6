"""Session storage: it holds no credentials, and only ended sessions are purged."""

import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.concurrency import run_concurrently, wait_until
from tests.support.cookies import SESSION, read_cookies, send_cookies
from tests.support.log import assert_not_logged
from tests.support.log_scan import JWT
from tests.support.new_table import new_table
from tests.support.own_azure import World
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import get_session
from tests.support.storage_proxy import Fault, Kind, StorageProxy
from trusted_service.models import User, UserId
from trusted_service.storage.sessions import SessionTable

HOUR = timedelta(hours=1)
SHORT = timedelta(seconds=1)


def test_tables_and_log_hold_no_credentials(world: World, person: Person) -> None:
    callback = person.start_sign_in()
    assert person.finish_sign_in(callback).status_code == 302
    token = person.token().json()["token"]
    cookie, csrf = person.http.cookies[SESSION], person.me()["csrfToken"]
    session_id, signature = cookie.split(".")
    secrets = [cookie, session_id, session_id[32:], signature, csrf, token, token.split(".")[2]]
    secrets += parse_qs(urlsplit(callback).query)["session_state"]
    wait_until(lambda: bool(get_session(world.tables, person).get("AcsUserId")))
    tables = [world.tables.get_table_client(table.name) for table in world.tables.list_tables()]
    stored = "".join(str(list(table.list_entities())) for table in tables)
    assert person.account.object_id in stored
    assert not JWT.search(stored)
    for secret in (*secrets, "opaque."):
        assert secret not in stored
    assert_not_logged(world.service, *secrets)


FAULTS = [Fault(kind="status", status=404), Fault(kind="status", status=429, retry_after="29")]
FAULTS += [Fault(kind="status", retry_after="31"), Fault(kind="reset"), Fault(kind="half")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}")
def test_failing_storage_changes_no_session(world: World, signed_in: Person, fault: Fault) -> None:
    form, callback = {"csrf_token": signed_in.me()["csrfToken"]}, signed_in.start_sign_in()
    world.storage.plant(fault)
    sign_out = partial(signed_in.post, "/auth/sign-out", data=form)
    for call in (partial(signed_in.get, "/"), partial(signed_in.finish_sign_in, callback), sign_out):
        response = call()
        assert_error_page(response, 503)
        assert response.headers["Retry-After"] == (fault.retry_after or "5")
        assert SESSION not in read_cookies(response)
    world.storage.clear()
    assert signed_in.me()["user"]["objectId"] == signed_in.account.object_id


def test_failing_storage_does_not_affect_anonymous_requests(world: World, person: Person) -> None:
    world.storage.plant(Fault(kind="status", status=500))
    assert person.get("/").status_code == 200
    assert person.get("/api/me").status_code == 401
    assert send_cookies(f"{world.service.url}/api/me", f"{SESSION}=forged").status_code == 401
    callback = person.start_sign_in()
    assert_error_page(person.finish_sign_in(callback), 503)
    assert person.get("/api/me").status_code == 401


@pytest.mark.parametrize("kind", ["status", "fail-after-commit"])
@pytest.mark.parametrize("skip", [0, 1])
def test_failed_sign_in_leaves_no_unreachable_session(
    world: World, person: Person, kind: Kind, skip: int
) -> None:
    """Each write of a sign-in fails; a logout at Entra ID ends a session that was written nevertheless."""
    callback = person.start_sign_in()
    world.storage.plant(Fault(kind=kind, method="P", table="sessions", status=500, skip=skip))
    assert_error_page(person.finish_sign_in(callback), 503)
    writes = [call for call in world.storage.calls() if call.table == "sessions" and call.method[0] == "P"]
    assert len(writes) == skip + 1
    assert person.get("/api/me").status_code == 401
    world.storage.clear()
    sessions = world.list_sessions(person)
    assert len(sessions) == (kind == "fail-after-commit" and skip == 1)
    (sid,) = parse_qs(urlsplit(callback).query)["session_state"]
    assert person.get("/auth/front-channel-logout", params={"sid": sid}).status_code == 200
    assert world.list_sessions(person) == []
    assert person.sign_in().status_code == 302


@pytest.mark.parametrize("storage_ahead", [-70, 70, 0], ids=["fast", "slow", "written by a slow one"])
def test_wrong_clock_purges_no_live_session(
    settings: dict[str, str], storage_proxy: StorageProxy, storage_ahead: int
) -> None:
    """The clock of the purging instance, or of the one that wrote the row, is 70 minutes off."""
    table, skew = new_table(settings), timedelta(minutes=storage_ahead)
    sessions = SessionTable(table, idle=HOUR, absolute=8 * HOUR)
    new_session(sessions, "")
    (row,) = table.query()
    seen_at = datetime.now(UTC) + (skew or timedelta(minutes=-70))
    table.merge({**{key: row[key] for key in ("PartitionKey", "RowKey")}, "SeenAt": seen_at})
    date = format_datetime(datetime.now(UTC) + skew, usegmt=True)
    storage_proxy.plant(Fault(kind="date", code=date))
    assert abs(table.now() - datetime.now(UTC) - skew) < timedelta(minutes=5)
    assert list(sessions.purge(table.now())) == []
    assert len(list(table.query())) == 1


def test_slow_clock_ends_no_session_in_use(settings: dict[str, str], storage_proxy: StorageProxy) -> None:
    """The instance is 70 minutes behind the storage, and the one that wrote the row is not."""
    sessions = SessionTable(new_table(settings), idle=HOUR, absolute=8 * HOUR)
    session, now = sessions.find(new_session(sessions, "")), datetime.now(UTC) + timedelta(minutes=70)
    assert session is not None
    storage_proxy.plant(Fault(kind="date", code=format_datetime(now, usegmt=True)))
    session = replace(session, seen_at=now - HOUR / 2)
    assert sessions.is_use_due(session)
    sessions.record_use(session)
    (row,) = sessions.table.query()
    assert row["SeenAt"] >= now - timedelta(seconds=1)


@pytest.mark.parametrize("absolute", [False, True])
def test_only_ended_sessions_are_purged(settings: dict[str, str], absolute: bool) -> None:
    table = new_table(settings)
    limits = {"idle": HOUR, "absolute": SHORT} if absolute else {"idle": SHORT, "absolute": HOUR}
    sessions, live = SessionTable(table, **limits), SessionTable(table, idle=HOUR, absolute=HOUR)
    session_id = new_session(sessions, "")
    assert list(sessions.purge(table.now())) == []
    time.sleep(2.1)  # the storage sets the timestamps of rows, and tells its time in whole seconds
    assert list(live.purge(table.now())) == []
    assert live.find(session_id) is not None
    assert list(sessions.purge(table.now())) == [1]
    assert live.find(session_id) is None


def new_session(sessions: SessionTable, entra_session_id: str) -> str:
    user = User(id=UserId(str(uuid.uuid4()), str(uuid.uuid4())), name="A", username="a")
    session_id, _ = sessions.create(user, entra_session_id=entra_session_id)
    return session_id


def test_entra_session_rows_are_purged(settings: dict[str, str]) -> None:
    table = new_table(settings)
    sessions = SessionTable(table, idle=SHORT, absolute=SHORT)
    for _ in range(3):
        new_session(sessions, f"{uuid.uuid4()}")
    assert len(list(table.query())) == 6
    assert list(sessions.purge(table.now())) == []
    time.sleep(2.1)  # the storage sets the timestamps of rows, and tells its time in whole seconds
    left = SessionTable(table, idle=SHORT, absolute=HOUR)
    list(left.purge(table.now()))
    assert len(list(table.query())) == 3, "these rows stay until their session must have ended"
    kept = new_session(SessionTable(table, idle=HOUR, absolute=HOUR), "kept")
    before = table.now()
    run_concurrently([lambda: list(sessions.purge(before)) for _ in range(2)])
    rows = [str(row["PartitionKey"]) for row in table.query()]
    assert len(rows) == 2
    assert sum(row.startswith("sid-") for row in rows) == 1
    assert SessionTable(table, idle=HOUR, absolute=HOUR).find(kept) is not None
    assert sessions.end_entra_session("kept") == 1
