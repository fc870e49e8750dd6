"""Rows of sessions that ended by themselves go in time, and nothing of those that live."""

import time
import uuid
from datetime import timedelta

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.new_table import new_table
from tests.support.person import Person
from tests.support.rows import age_session, list_sessions
from tests.support.together import run_together
from trusted_service.models import SessionOrigin, User, UserId
from trusted_service.storage.sessions import SessionLimits, SessionTable
from trusted_service.upkeep import Upkeep

HOUR = timedelta(hours=1)
SHORT = timedelta(seconds=1)


@pytest.fixture(scope="module")
def upkeep(application: Flask) -> Upkeep:
    """What another instance of the service does now and then."""
    found: Upkeep = application.extensions["trusted_service"].upkeep
    return found


@pytest.mark.parametrize(("column", "minutes"), [("SeenAt", 60), ("CreatedAt", 480)])
def test_session_goes_a_few_minutes_after_its_end(
    tables: TableServiceClient, signed_in: Person, upkeep: Upkeep, column: str, minutes: int
) -> None:
    age_session(tables, signed_in, column, timedelta(minutes=minutes + 1))
    upkeep.purge()
    assert len(list_sessions(tables, signed_in)) == 1
    age_session(tables, signed_in, column, timedelta(minutes=minutes + 6))
    upkeep.purge()
    assert list_sessions(tables, signed_in) == []


def test_session_in_use_stays(signed_in: Person, upkeep: Upkeep) -> None:
    upkeep.purge()
    assert signed_in.get("/api/me").status_code == 200


def new_session(sessions: SessionTable, entra_session_id: str) -> str:
    user = User(id=UserId(str(uuid.uuid4()), str(uuid.uuid4())), name="A", username="a")
    session_id, _ = sessions.create(
        user, entra_session_id=entra_session_id, login_hint=None, origin=SessionOrigin()
    )
    return session_id


def test_what_leads_from_entra_sessions_goes_with_them(settings: dict[str, str]) -> None:
    table = new_table(settings)
    sessions = SessionTable(table, SessionLimits(idle=SHORT, absolute=SHORT))
    for _ in range(3):
        new_session(sessions, f"{uuid.uuid4()}")
    assert len(list(table.all())) == 6
    assert list(sessions.purge()) == []
    time.sleep(1.1)  # the storage dates rows by itself
    left = SessionTable(table, SessionLimits(idle=SHORT, absolute=HOUR))
    list(left.purge(timedelta()))
    assert len(list(table.all())) == 3, "what leads to a session goes only when that must be over"
    kept = new_session(SessionTable(table, SessionLimits(idle=HOUR, absolute=HOUR)), "kept")
    run_together([lambda: list(sessions.purge(timedelta())) for _ in range(2)])
    rows = [str(row["PartitionKey"]) for row in table.all()]
    assert len(rows) == 2
    assert sum(row.startswith("sid-") for row in rows) == 1
    assert sessions.find(kept) is not None
    assert sessions.end_entra_session("kept") == 1
