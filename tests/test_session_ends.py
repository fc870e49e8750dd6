"""When a session ends by itself, and what its use writes down."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.data.tables import TableServiceClient

from tests.support.cookies import read_cookies
from tests.support.person import Person
from tests.support.rows import age_session, get_session, list_sessions
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until

IDLE, ABSOLUTE = timedelta(minutes=60), timedelta(minutes=480)
MOMENT = timedelta(seconds=20)


@pytest.fixture(scope="module")
def short_lived(settings: dict[str, str], service: Service) -> Iterator[Service]:
    limits = {"SESSION_IDLE_MINUTES": "1", "SESSION_ABSOLUTE_MINUTES": "2"}
    with Service(settings | limits | {"PUBLIC_URL": service.url}) as running:
        yield running


@pytest.mark.parametrize(("column", "limit"), [("SeenAt", IDLE), ("CreatedAt", ABSOLUTE)])
def test_session_lives_to_its_limit_and_no_longer(
    tables: TableServiceClient, other_service: Service, signed_in: Person, column: str, limit: timedelta
) -> None:
    age_session(tables, signed_in, column, limit + MOMENT)
    for person in (signed_in, signed_in.at(other_service.url)):
        answer = person.get("/api/me")
        assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
        assert person.get("/").status_code == 200
        assert signed_in.account.object_id not in person.get("/").text
    # Nothing is written about a session that has ended, so the same one shows the other side of its limit.
    age_session(tables, signed_in, column, limit - MOMENT)
    assert signed_in.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    ("column", "limit"), [("SeenAt", timedelta(minutes=1)), ("CreatedAt", timedelta(minutes=2))]
)
def test_limits_are_those_of_the_settings(
    tables: TableServiceClient, short_lived: Service, signed_in: Person, column: str, limit: timedelta
) -> None:
    person = signed_in.at(short_lived.url)
    age_session(tables, signed_in, column, limit + MOMENT)
    assert person.get("/api/me").status_code == 401
    age_session(tables, signed_in, column, limit - MOMENT)
    assert person.get("/api/me").status_code == 200
    callback = person.start_sign_in().replace(signed_in.url, person.url)
    assert read_cookies(person.finish_sign_in(callback))["session"].attributes["max-age"] == "120"


def test_use_keeps_a_session_without_a_write_each_time(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    age_session(tables, signed_in, "SeenAt", IDLE / 10 - MOMENT)
    before = get_session(tables, signed_in)
    storage_proxy.clear()
    for path in ("/", "/api/me") * 3:
        assert signed_in.get(path).status_code == 200
    assert get_session(tables, signed_in).metadata["etag"] == before.metadata["etag"]
    # A write that is due and comes after all of that: had there been another before it, there would be two.
    age_session(tables, signed_in, "SeenAt", IDLE / 2)
    assert signed_in.get("/").status_code == 200
    wait_until(lambda: datetime.now(UTC) - get_session(tables, signed_in)["SeenAt"] < MOMENT)
    assert len([call for call in storage_proxy.calls() if call.method != "GET"]) == 1


@pytest.mark.parametrize("age", [IDLE / 10 + MOMENT, IDLE - MOMENT])
def test_use_is_written_down_after_a_tenth_of_the_idle_time(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person, age: timedelta
) -> None:
    age_session(tables, signed_in, "SeenAt", age)
    storage_proxy.clear()
    assert signed_in.get("/").status_code == 200
    wait_until(lambda: datetime.now(UTC) - get_session(tables, signed_in)["SeenAt"] < MOMENT)
    assert signed_in.get("/").status_code == 200
    writes = [call for call in storage_proxy.calls() if call.method != "GET"]
    assert len(writes) == 1


def test_use_does_not_move_the_absolute_end(tables: TableServiceClient, signed_in: Person) -> None:
    created = get_session(tables, signed_in)["CreatedAt"]
    age_session(tables, signed_in, "SeenAt", IDLE / 2)
    assert signed_in.token().status_code == 200
    wait_until(lambda: datetime.now(UTC) - get_session(tables, signed_in)["SeenAt"] < MOMENT)
    assert get_session(tables, signed_in)["CreatedAt"] == created


def test_use_that_cannot_be_written_down_fails_nothing(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    age_session(tables, signed_in, "SeenAt", IDLE / 2)
    storage_proxy.plant(Fault(kind="status", method="P", table="sessions", status=500))
    assert signed_in.get("/").status_code == 200
    assert signed_in.get("/api/me").status_code == 200
    storage_proxy.clear()
    assert signed_in.get("/").status_code == 200


def test_use_does_not_bring_an_ended_session_back(
    tables: TableServiceClient, storage_proxy: StorageProxy, signed_in: Person
) -> None:
    age_session(tables, signed_in, "SeenAt", IDLE / 2)
    row = get_session(tables, signed_in)

    def end() -> None:
        tables.get_table_client("sessions").delete_entity(row)

    # Between the read of the session and the write of its use it ends elsewhere.
    storage_proxy.plant(Fault(kind="signal", method="P", table="sessions", times=1, action=end))
    assert signed_in.get("/").status_code == 200
    wait_until(lambda: list_sessions(tables, signed_in) == [])
    assert signed_in.get("/api/me").status_code == 401
    assert list_sessions(tables, signed_in) == []
