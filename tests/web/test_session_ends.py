"""Session expiry: the idle and absolute limits, and the recording of use."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from azure.data.tables import TableServiceClient

from tests.support.admin_client import ROLE, assert_signed_out, finish_sign_in_at
from tests.support.concurrency import wait_until
from tests.support.cookies import SESSION, read_cookies
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import age_session, get_session, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy

IDLE, ABSOLUTE = timedelta(minutes=60), timedelta(minutes=480)
MOMENT = timedelta(seconds=20)


@pytest.fixture(scope="module")
def short_lived(settings: dict[str, str], service: Service) -> Iterator[Service]:
    limits = {"SESSION_IDLE_MINUTES": "1", "SESSION_ABSOLUTE_MINUTES": "2"}
    with Service(settings | limits | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.mark.parametrize(
    ("at", "column", "limit"),
    [
        *(("service", "SeenAt", IDLE), ("other_service", "SeenAt", IDLE), ("service", "CreatedAt", ABSOLUTE)),
        *(("short_lived", "SeenAt", IDLE / 60), ("short_lived", "CreatedAt", ABSOLUTE / 240)),
    ],
)
def test_session_expires_at_its_limit(
    request: pytest.FixtureRequest,
    tables: TableServiceClient,
    signed_in: Person,
    at: str,
    column: str,
    limit: timedelta,
) -> None:
    person = signed_in.at(request.getfixturevalue(at).url)
    age_session(tables, signed_in, column, limit + MOMENT)
    assert_problem(person.get("/api/me"), 401, "not_signed_in")
    assert person.get("/").status_code == 200
    assert signed_in.account.object_id not in person.get("/").text
    # An expired session's row stays as it is, so it can also show the other side of the limit.
    age_session(tables, signed_in, column, limit - MOMENT)
    assert person.get("/api/me").status_code == 200


def test_session_of_removed_tenant_is_refused(
    settings: dict[str, str], service: Service, mapped_user: Person, new_person: Callable[..., Person]
) -> None:
    """From the next request after a restart; the session is good for signing out, or in as another."""
    admin, origin = new_person(roles=[ROLE]).signed_in(), {"Origin": service.url}
    csrf, guest = mapped_user.csrf_headers(), admin.azure.get_account("guest@fabrikam.example")
    narrower = settings | {"PUBLIC_URL": service.url, "ENTRA_ALLOWED_TENANTS": guest.tenant_id}
    with Service(narrower) as restarted:
        assert_signed_out(mapped_user, restarted.url)
        there = mapped_user.at(restarted.url)
        assert mapped_user.account.object_id not in there.get("/").text
        for method, path in (("POST", "/api/token"), ("POST", "/api/me/revoke"), ("DELETE", "/api/me")):
            assert_problem(there.call(method, path, headers=csrf), 401, "not_signed_in")
        assert there.get("/auth/teams").status_code == 302
        assert_problem(there.post("/api/token/teams", headers=csrf, json={}), 401, "not_signed_in")
        assert admin.at(restarted.url).get("/admin/users").status_code == 302
        assert_problem(admin.at(restarted.url).get("/api/admin/users"), 401, "not_signed_in")
        assert mapped_user.is_signed_in()
        assert there.post("/auth/sign-out", headers=origin).status_code == 403  # without the CSRF value
        response = there.post("/auth/sign-out", headers=origin | csrf)
        assert "logout" in response.headers["Location"]
        assert not mapped_user.is_signed_in()
        browser = admin.at(restarted.url)
        browser.account = guest
        callback = browser.start_sign_in().replace(service.url, restarted.url)
        assert browser.finish_sign_in(callback).status_code == 302
        assert not admin.is_signed_in()


def test_cookie_lives_as_long_as_the_session(short_lived: Service, signed_in: Person) -> None:
    cookies = read_cookies(finish_sign_in_at(signed_in, short_lived.url))
    assert cookies[SESSION].attributes["max-age"] == "120"


def test_use_is_recorded_only_when_due(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    age_session(tables, signed_in, "SeenAt", IDLE / 10 - MOMENT)
    before = get_session(tables, signed_in)
    storage_proxy.clear()
    for path in ("/", "/api/me") * 3:
        assert signed_in.get(path).status_code == 200
    assert get_session(tables, signed_in).metadata["etag"] == before.metadata["etag"]
    # Due writes come last, so that the count would include any earlier write.
    for writes, age in enumerate((IDLE / 10 + MOMENT, IDLE - MOMENT), 1):
        age_session(tables, signed_in, "SeenAt", age)
        assert signed_in.get("/").status_code == 200
        wait_until(lambda: datetime.now(UTC) - get_session(tables, signed_in)["SeenAt"] < MOMENT)
        assert signed_in.get("/").status_code == 200
        assert len([call for call in storage_proxy.calls() if call.method != "GET"]) == writes
    assert get_session(tables, signed_in)["CreatedAt"] == before["CreatedAt"]  # the absolute limit stays


def test_failure_to_record_use_is_harmless(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    age_session(tables, signed_in, "SeenAt", IDLE / 2)
    storage_proxy.plant(Fault(kind="status", method="P", table="sessions", status=500))
    assert signed_in.get("/").status_code == 200
    assert signed_in.get("/api/me").status_code == 200
    storage_proxy.clear()
    assert signed_in.get("/").status_code == 200


def test_recording_use_revives_no_session(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    age_session(tables, signed_in, "SeenAt", IDLE / 2)
    row = get_session(tables, signed_in)

    # The session ends elsewhere after it is read and before its use is recorded.
    end = partial(tables.get_table_client("sessions").delete_entity, row)
    storage_proxy.plant(Fault(kind="signal", method="P", table="sessions", times=1, action=end))
    assert signed_in.get("/").status_code == 200
    wait_until(lambda: list_sessions(tables, signed_in) == [])
    assert signed_in.get("/api/me").status_code == 401
    assert list_sessions(tables, signed_in) == []
