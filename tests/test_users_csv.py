"""The list of everybody as CSV: whole, streamed, safe to open in a spreadsheet."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.crowd import plant_crowd
from tests.support.desk import SECTION_5A, Desk
from tests.support.identity_rows import get_identity
from tests.support.own_azure import OwnAzure, own_azure
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.storage_proxy import Fault, StorageProxy

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20x"]
ROWS = 5000
MOST_MEGABYTES = 12

User = dict[str, Any]


def read_users(answer: requests.Response) -> dict[str, User]:
    """The rows of the file by user."""
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="users.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.content.decode("utf-8")
    assert text.startswith(",".join(SECTION_5A) + "\r\n")
    assert text.endswith("\r\n")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    users = {f"{row['tenantId']}/{row['objectId']}": row for row in rows}
    assert len(users) == len(rows)
    return users


def as_cell(value: object) -> object:
    """How a member of the API stands in the file."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def test_file_has_the_members_of_the_api(desk: Desk, new_person: Callable[..., Person]) -> None:
    active, blocked, never = new_person(name='Zoë "Z", Krüger'), new_person(), new_person()
    for person in (active, blocked):
        person.sign_in()
        assert person.token().status_code == 200
    for person in (blocked, never):
        desk.do("api", person, "block")
    rows = read_users(desk.person.get("/admin/users.csv"))
    for person in (active, blocked, never):
        user, row = desk.get_user(person), rows[person.key]
        assert row == {name: as_cell(value) for name, value in user.items()}
        assert TIME.fullmatch(row["createdAt"])
    assert rows[active.key]["name"] == 'Zoë "Z", Krüger'
    assert TIME.fullmatch(rows[active.key]["lastTokenAt"])
    assert rows[blocked.key]["blocked"] == "true"
    assert rows[never.key]["communicationUserId"] == ""


@pytest.mark.parametrize("name", FORMULAS)
def test_formula_is_made_text(desk: Desk, new_person: Callable[..., Person], name: str) -> None:
    person = new_person(name=name)
    person.sign_in()
    assert person.token().status_code == 200
    row = read_users(desk.person.get("/admin/users.csv"))[person.key]
    assert row["name"] == f"'{name}"


def test_formula_behind_a_semicolon_is_made_text(desk: Desk, new_person: Callable[..., Person]) -> None:
    """Where the comma is for decimals, a spreadsheet splits there."""
    person = new_person(name="x;=1+1; @SUM(A1);y")
    person.sign_in()
    assert person.token().status_code == 200
    row = read_users(desk.person.get("/admin/users.csv"))[person.key]
    assert row["name"] == "x;'=1+1; '@SUM(A1);y"


def test_identity_is_not_taken_for_a_formula(desk: Desk, tables: TableServiceClient, regular: Person) -> None:
    row = read_users(desk.person.get("/admin/users.csv"))[regular.key]
    assert row["communicationUserId"] == get_identity(tables, regular)


def test_storage_that_is_down_at_the_start_is_503(desk: Desk, storage_proxy: StorageProxy) -> None:
    storage_proxy.plant(Fault(kind="status", method="GET", table="identities", retry_after="4"))
    answer = desk.person.get("/admin/users.csv")
    assert_error_page(answer, 503)
    assert answer.headers["Retry-After"] == "4"


@pytest.fixture(scope="module")
def own() -> Iterator[OwnAzure]:
    """A local Azure with five thousand users."""
    with own_azure() as running:
        plant_crowd(running.azure.env, ROWS)
        yield running


@pytest.fixture(scope="module")
def clerk(own: OwnAzure) -> Desk:
    return own.new_desk()


def worker_of(own: OwnAzure) -> psutil.Process:
    """The process that serves the requests."""
    process = own.service.process
    assert process is not None
    (worker,) = psutil.Process(process.pid).children()
    return worker


@pytest.mark.timeout(240)
def test_first_line_comes_before_the_last_is_read(own: OwnAzure, clerk: Desk) -> None:
    own.storage.clear()
    with clerk.person.get("/admin/users.csv", stream=True) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ",".join(SECTION_5A).encode()
        early = [call for call in own.storage.calls() if call.table == "identities"]
        assert len(early) < ROWS / 1000
        assert sum(1 for line in lines if line) == ROWS


def test_file_of_many_rows_is_whole_and_memory_stays_flat(own: OwnAzure, clerk: Desk) -> None:
    clerk.person.get("/admin/users.csv")  # what is loaded at first use
    worker = worker_of(own)
    before = worker.memory_info().rss
    for _ in range(3):
        assert len(read_users(clerk.person.get("/admin/users.csv"))) == ROWS
    assert (worker.memory_info().rss - before) / 1e6 < MOST_MEGABYTES


def test_file_that_is_cut_short_does_not_look_whole(own: OwnAzure, clerk: Desk) -> None:
    own.storage.plant(Fault(kind="status", method="GET", table="identities", skip=3))
    with clerk.person.get("/admin/users.csv", stream=True) as answer:
        assert answer.status_code == 200
        with pytest.raises(requests.RequestException):
            list(answer.iter_content(65536))
    own.storage.clear()
    assert clerk.person.get("/admin/users", params={"q": "nobody"}).status_code == 200


def test_reader_who_leaves_early_holds_nothing_up(own: OwnAzure, clerk: Desk) -> None:
    with clerk.person.get("/admin/users.csv", stream=True) as answer:
        next(answer.iter_lines())
    assert clerk.person.get("/admin/users", params={"q": "nobody"}).status_code == 200
