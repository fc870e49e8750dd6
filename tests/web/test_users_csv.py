"""GET /admin/users.csv: complete, streamed, and safe to open in a spreadsheet."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.admin_client import SECTION_5A, Admin
from tests.support.concurrency import wait_until
from tests.support.cookies import SESSION
from tests.support.log import read_event
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.raw_http import send_raw
from tests.support.rows import get_identity, list_rows
from tests.support.seed import plant_crowd, plant_events
from tests.support.storage_proxy import Fault, StorageProxy

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
ROWS = 5000


def read_users(admin: Admin) -> dict[str, dict[str, Any]]:
    """Return the rows of the file by user."""
    response = admin.person.get("/admin/users.csv")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="users.csv"'
    assert response.headers["Cache-Control"] == "no-store"
    text = response.content.decode("utf-8")
    assert text.startswith("\ufeff" + ",".join(SECTION_5A) + "\r\n")  # so that Excel shows accents right
    text = text.removeprefix("\ufeff")
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    users = {f"{row['tenantId']}/{row['objectId']}": row for row in rows}
    assert len(users) == len(rows)
    return users


def test_file_matches_the_api(
    admin: Admin, tables: TableServiceClient, new_person: Callable[..., Person]
) -> None:
    active, blocked, unseen = new_person(name='Zoë "Z", Krüger'), new_person(), new_person()
    for person in (active, blocked):
        person.sign_in()
        assert person.token().status_code == 200
    for person in (blocked, unseen):
        admin.do("api", person, "block")
    rows, as_cell = read_users(admin), {None: "", True: "true", False: "false"}
    for person in (active, blocked, unseen):
        user = admin.get_user(person)
        assert rows[person.key] == {name: as_cell.get(value, value) for name, value in user.items()}
        assert TIME.fullmatch(rows[person.key]["createdAt"])
    assert rows[active.key]["name"] == 'Zoë "Z", Krüger'
    assert rows[active.key]["communicationUserId"] == get_identity(tables, active)
    assert TIME.fullmatch(rows[active.key]["lastTokenAt"])
    assert rows[blocked.key]["blocked"] == "true"
    assert rows[unseen.key]["communicationUserId"] == ""


def test_formulas_are_escaped(admin: Admin, new_person: Callable[..., Person]) -> None:
    """Formulas are escaped, also where spreadsheets split that take another delimiter."""
    cells = {f"{start}1": f"'{start}1" for start in FORMULA_STARTS}
    cells |= {"x;=1+1; @SUM(A1);y": "x;'=1+1; '@SUM(A1);y"}
    cells |= {'x;"=1+1': "x;'\"=1+1", 'x| "" @': 'x| \'"" @', "x\t=1\r\n\v=1": "x =1 =1"}
    people = {name: new_person(name=name) for name in cells}
    for person in people.values():
        person.sign_in()
        assert person.token().status_code == 200
    rows = read_users(admin)
    assert {name: rows[person.key]["name"] for name, person in people.items()} == cells
    for delimiter in ",;|\t":
        lines = csv.reader(admin.person.get("/admin/users.csv").text.splitlines(), delimiter=delimiter)
        assert not [cell for line in lines for cell in line if cell.strip('" ').startswith(FORMULA_STARTS)]


def test_storage_outage_at_start_is_503(admin: Admin, storage_proxy: StorageProxy) -> None:
    storage_proxy.plant(Fault(kind="status", method="GET", table="identities", retry_after="4"))
    response = admin.person.get("/admin/users.csv")
    assert_error_page(response, 503)
    assert response.headers["Retry-After"] == "4"


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    with own_azure() as running:
        plant_crowd(running.azure.env, ROWS, name="x" * 1200)  # more than the buffers of a connection hold
        yield running


@pytest.fixture(scope="module")
def own_admin(own: OwnAzure) -> Admin:
    return own.new_admin()


@pytest.mark.timeout(240)
def test_file_is_streamed_while_rows_are_read(own: OwnAzure, own_admin: Admin) -> None:
    own.storage.clear()
    with own_admin.person.get("/admin/users.csv", stream=True) as response:
        lines = response.iter_lines()
        assert next(lines).decode("utf-8-sig") == ",".join(SECTION_5A)
        early = [call for call in own.storage.calls() if call.table == "identities"]
        assert len(early) < ROWS / 1000
        assert sum(1 for line in lines if line) == ROWS


def test_large_file_is_complete_with_constant_memory(own: OwnAzure, own_admin: Admin) -> None:
    own_admin.person.get("/admin/users.csv")  # warm-up
    assert own.service.process is not None
    (worker,) = psutil.Process(own.service.process.pid).children()
    before = worker.memory_info().rss
    for _ in range(3):
        assert len(read_users(own_admin)) == ROWS
    assert (worker.memory_info().rss - before) / 1e6 < 12


def last_export(own: OwnAzure) -> tuple[str, str]:
    """Return outcome and detail of the newest event about an export."""
    rows = list_rows(own.tables, "audit", "PartitionKey", "all")
    newest = min((row for row in rows if row["Action"] == "export"), key=lambda row: str(row["RowKey"]))
    return newest["Outcome"], newest["Detail"]


def assert_recorded_as_cut_short(own: OwnAzure, reason: str) -> None:
    outcome, detail = last_export(own)
    assert outcome == "failed"
    found = re.fullmatch(rf"{reason}; stopped after ([0-9,]+) rows", detail)
    assert found, detail
    assert 0 < int(found[1].replace(",", "")) < ROWS


@pytest.mark.parametrize("table", ["identities", "audit"])
def test_broken_file_is_recorded_as_failed(own: OwnAzure, own_admin: Admin, table: str) -> None:
    path = {"identities": "/admin/users.csv", "audit": "/admin/audit.csv"}[table]
    if table == "audit":
        plant_events(own.azure.env, 700, timedelta(days=1))
    own.storage.plant(Fault(kind="status", method="GET", table=table, skip=1))
    # Only the end of the connection tells an HTTP/1.0 client the end of the file.
    cookie = f"Cookie: {SESSION}={own_admin.person.http.cookies[SESSION]}"
    with pytest.raises(ConnectionResetError):
        send_raw(own.service.url, f"GET {path} HTTP/1.0\r\n{cookie}\r\n\r\n".encode())
    own.storage.clear()
    own.storage.plant(Fault(kind="status", method="GET", table=table, skip=1))
    with own_admin.person.get(path, stream=True) as response:
        assert response.status_code == 200
        with pytest.raises(requests.RequestException):
            list(response.iter_content(65536))
    own.storage.clear()
    assert_recorded_as_cut_short(own, "Table Storage: HTTP 503 PlantedFault")
    logged = read_event(own.service, response, "sensitive_read")
    assert logged["outcome"] == "failed"


def test_abandoned_file_is_recorded_as_failed(own: OwnAzure, own_admin: Admin) -> None:
    with own_admin.person.get("/admin/users.csv", stream=True) as response:
        lines = response.iter_lines()
        next(lines)
        time.sleep(1)  # the service waits for the client, which does not read
        assert last_export(own)[0] == "started"
    wait_until(lambda: last_export(own)[0] != "started")
    assert_recorded_as_cut_short(own, "interrupted")
    assert own_admin.person.get("/admin/users", params={"q": "nobody"}).status_code == 200


def test_long_file_is_complete_and_recorded(own: OwnAzure, own_admin: Admin) -> None:
    own.storage.plant(Fault(kind="delay", method="GET", table="identities", seconds=2.5))
    began = time.monotonic()
    assert len(read_users(own_admin)) == ROWS
    assert time.monotonic() - began > 11, "longer than all calls of another request may take"
    assert last_export(own) == ("done", "")
