"""Audit trail: an event before and after each action, and no action without its first event."""

import csv
import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from azure.data.tables import TableEntity, TableServiceClient, UpdateMode

from tests.support.admin_client import CHANNELS, ROLE, Admin, Channel, bearer, call
from tests.support.concurrency import wait_until
from tests.support.jobs import JobAdmin, job_path
from tests.support.local_azure import LocalAzure
from tests.support.log import read_events
from tests.support.pages import assert_error_page, read_page
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import find_identity_row, get_identity, list_rows
from tests.support.service import Service
from tests.support.storage_proxy import Fault, Kind, StorageProxy
from trusted_service.audit import EVENTS

HEADER = ["at", "action", "outcome", "actorKind", "actor", "actorName", "target", "detail", "requestId"]
ACTIONS = ["block", "unblock", "revoke", "sign-out", "delete"]

Event = dict[str, str]


def read_csv(admin: Admin, **query: str) -> list[Event]:
    """Return the events of audit.csv, newest first."""
    response = admin.person.get("/admin/audit.csv", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/csv")
    assert response.headers["Cache-Control"] == "no-store"
    reader = csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"), newline=""), strict=True)
    events = list(reader)
    assert reader.fieldnames == HEADER
    return events


def about(admin: Admin, person: Person, **query: str) -> list[Event]:
    return read_csv(admin, target=person.key, **query)


def trail_rows(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    return list_rows(tables, "audit", "TargetObjectId", person.account.object_id)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("action", ACTIONS)
def test_action_records_intent_and_outcome(
    admin: Admin, service: Service, mapped_user: Person, action: str, channel: Channel
) -> None:
    response = admin.do(channel, mapped_user, action)
    done, started = about(admin, mapped_user, action=action)
    for event, outcome in ((started, "started"), (done, "done")):
        assert event["outcome"] == outcome
        assert (event["action"], event["target"]) == (action, mapped_user.key)
        assert (event["actorKind"], event["actor"]) == ("administrator", admin.person.key)
        assert event["actorName"] == admin.person.account.username
        assert event["requestId"] == response.headers["X-Request-ID"]
        at = datetime.strptime(event["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=2)
    logged = [event for event in read_events(service, response) if event.get("actor") == admin.person.key]
    assert [(event["action"], event["outcome"]) for event in logged] == [(action, "done")]


def test_bearer_actor_is_user_or_application(azure: LocalAzure, admin: Admin, person: Person) -> None:
    application = {"Authorization": f"Bearer {azure.mint_tokens(app=True)[0]}"}
    for action, headers in (("block", application), ("sign-out", bearer(azure, admin.person))):
        url = f"{person.url}/api/admin/users/{person.key}/{action}"
        assert call("POST", url, headers=headers).status_code == 200
    assert {event["actorKind"] for event in about(admin, person, action="block")} == {"application"}
    assert {event["actor"] for event in about(admin, person, action="sign-out")} == {admin.person.key}


def test_actor_names_are_looked_up_not_stored(
    tables: TableServiceClient, new_person: Callable[..., Person], person: Person, storage_proxy: StorageProxy
) -> None:
    admin, reader = (Admin(new_person(roles=[ROLE]).signed_in()) for _ in range(2))
    admin.do("api", person, "block")
    job = job_path(JobAdmin(admin.person).select("delete", [person.key]))
    paths = [f"/admin/{path}" for path in ("audit", "audit.csv", f"users/{person.key}", "jobs")] + [job]

    def assert_shown(name: str, paths: list[str] = paths) -> None:
        for path in paths:
            response = reader.person.get(path)
            assert response.status_code == 200, path
            assert name in response.text, path

    assert_shown(admin.person.account.username)
    for table in ("audit", "jobs"):
        assert admin.person.account.username not in str(list(tables.get_table_client(table).list_entities()))
    faults: list[tuple[Kind, list[str]]] = [("status", [paths[0], paths[3]]), ("hang", [paths[1]])]
    for kind, unnamed in faults:
        storage_proxy.plant(Fault(kind=kind, method="GET", table="identities"))
        assert_shown(admin.person.key, unnamed)
        storage_proxy.clear()
    assert admin.person.get_token()
    admin.person.sign_out()
    assert_shown(admin.person.account.username)
    admin.person.signed_in().erase()
    assert_shown(admin.person.key)
    assert admin.person.account.username not in reader.person.get(job).text


def test_own_actions_are_recorded_by_id(admin: Admin, mapped_user: Person) -> None:
    mapped_user.post("/api/me/revoke", headers=mapped_user.csrf_headers())
    mapped_user.erase()
    for action in ("revoke", "delete"):
        events = about(admin, mapped_user, action=action)
        assert [event["outcome"] for event in events] == ["done", "started"]
        assert {(event["actorKind"], event["actor"]) for event in events} == {("user", mapped_user.key)}


def test_identity_changes_are_system_events(
    azure: LocalAzure, admin: Admin, tables: TableServiceClient, mapped_user: Person
) -> None:
    def get_event(action: str) -> Event:
        wait_until(lambda: bool(about(admin, mapped_user, action=action)))
        (event,) = about(admin, mapped_user, action=action)
        assert (event["outcome"], event["actorKind"]) == ("done", "system")
        assert event["requestId"]
        return event

    former = get_identity(tables, mapped_user)
    assert get_event("identity-created")["detail"] == "", "an erasure keeps no ACS id with its owner"
    azure.delete_identity(former)
    response = mapped_user.token()
    event = get_event("identity-replaced")
    current = response.json()["user"]["communicationUserId"]
    assert event["detail"] == ""
    assert current == get_identity(tables, mapped_user) != former
    assert event["requestId"] == response.headers["X-Request-ID"]


def test_failed_action_is_recorded_as_failed(azure: LocalAzure, admin: Admin, mapped_user: Person) -> None:
    azure.plant_fault("acs", "revoke", "status", status=503, times=None, code="Busy\x1b\n\u202e!")
    assert admin.act("api", mapped_user, "revoke").status_code == 503
    failed, started = about(admin, mapped_user, action="revoke")
    assert (started["outcome"], failed["outcome"]) == ("started", "failed")
    assert failed["detail"] == "Communication Services: HTTP 503 Busy !"


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("action", ACTIONS)
def test_action_requires_recorded_intent(
    admin: Admin, mapped_user: Person, storage_proxy: StorageProxy, action: str, which: int
) -> None:
    wait_until(lambda: bool(about(admin, mapped_user, action="identity-created")))
    token = mapped_user.get_token()
    if action == "unblock":
        admin.do("api", mapped_user, "block")
    before = admin.get_user(mapped_user)
    storage_proxy.plant(Fault(kind="status", method="P", table="audit", skip=which, status=503))
    assert_problem(admin.act("api", mapped_user, action), 503, "upstream_unavailable")
    storage_proxy.clear()
    assert admin.get_user(mapped_user) == before
    if action != "unblock":
        assert mapped_user.is_signed_in()
        assert mapped_user.azure.check_token(token)["valid"] is True


def test_erasure_requires_recorded_intent(
    admin: Admin, tables: TableServiceClient, mapped_user: Person, storage_proxy: StorageProxy
) -> None:
    csrf = mapped_user.csrf_headers()
    storage_proxy.plant(Fault(kind="status", method="P", table="audit"))
    for response in (mapped_user.erase(csrf), mapped_user.post("/api/me/revoke", headers=csrf)):
        assert_problem(response, 503, "upstream_unavailable")
    for path in ("/admin/users.csv", "/admin/audit.csv"):
        assert_error_page(admin.person.get(path), 503)
        assert admin.person.call("HEAD", path).status_code == 200  # exports nothing
    storage_proxy.clear()
    assert mapped_user.is_signed_in()
    assert find_identity_row(tables, mapped_user) is not None


def test_action_succeeds_without_recorded_outcome(
    admin: Admin, service: Service, person: Person, storage_proxy: StorageProxy
) -> None:
    storage_proxy.plant(Fault(kind="status", method="P", table="audit", skip=2))
    response = admin.do("api", person, "block")
    storage_proxy.clear()
    assert [event["outcome"] for event in about(admin, person)] == ["started"]
    events = {event["event"]: event for event in read_events(service, response)}
    assert events["user_updated"]["outcome"] == "done"  # the log has it
    assert "audit_not_written" in events


def test_events_are_never_changed(admin: Admin, tables: TableServiceClient, mapped_user: Person) -> None:
    admin.do("api", mapped_user, "block")
    before = {row["RowKey"]: row.metadata["etag"] for row in trail_rows(tables, mapped_user)}
    for action in ("unblock", "revoke", "delete"):
        admin.do("api", mapped_user, action)
    after = {row["RowKey"]: row.metadata["etag"] for row in trail_rows(tables, mapped_user)}
    assert before.items() <= after.items()


def read_trail(admin: Admin, **query: str) -> tuple[list[str], str]:
    """Return the text of each event on a page of the trail, and the next page's query, if any."""
    page = read_page(admin.person, "/admin/audit", **query)
    times = [str(tag["datetime"]) for tag in page.select("tbody time")]
    assert times == sorted(times, reverse=True)
    link = page.select_one("a[rel~=next]")
    query_of_next = "" if link is None else urlsplit(str(link["href"])).query
    return [row.get_text(" ", strip=True) for row in page.select("tbody tr")], query_of_next


@pytest.fixture(scope="module")
def audited(admin: Admin, tables: TableServiceClient, new_person: Callable[..., Person]) -> Person:
    """A user with 122 events: two today, and one, with unprintable detail, on each of 120 days before."""
    person = new_person()
    admin.do("api", person, "block", reason=f"reason-{person.account.object_id}")
    template = trail_rows(tables, person)[0] | {"Detail": "bad\udcff\x1b"}
    for age in range(1, 121):
        at = datetime.now(UTC) - timedelta(days=age)
        key = f"{10**17 - int(at.timestamp() * 1_000_000):017d}-{uuid.uuid4().hex[:8]}"
        for partition in (f"user-{person.account.object_id}-{person.account.tenant_id}", "all"):
            row: dict[str, Any] = template | {"PartitionKey": partition, "RowKey": key, "At": at}
            tables.get_table_client("audit").upsert_entity(row, mode=UpdateMode.REPLACE)
    return person


def day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).strftime("%Y-%m-%d")


def test_pages_show_every_event_once_newest_first(admin: Admin, audited: Person) -> None:
    pages: list[list[str]] = []
    query = {"target": audited.key}
    while query:
        assert "target" in query
        texts, following = read_trail(admin, **query)
        pages.append(texts)
        query = dict(parse_qsl(following))
        cursor = {"cursor": query.get("cursor", "x")}
        assert admin.person.get("/api/admin/users", params=cursor).status_code == 400, "an audit cursor"
    assert [len(texts) for texts in pages] == [50, 50, 22]
    assert len({text for texts in pages for text in texts}) == 122


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"since": day(0)}, 2),
        ({"until": day(0)}, 122),
        ({"since": day(10), "until": day(1)}, 10),
        ({"since": day(5)}, 7),
        ({"until": day(100)}, 21),
        *(({"since": day}, 122) for day in ("1970-01-01", "1969-12-31", "0001-01-01")),
        *(({"until": day}, 122) for day in ("9999-12-30", "9999-12-31")),
        *(({"until": day}, 0) for day in ("1971-01-01", "0001-01-01")),
        ({"since": "9999-12-31"}, 0),
        ({"action": "block"}, 122),
        *(({"action": action}, 0) for action in ("delete", "' or Action ne '", "x" * 2000)),
        *(({"actor": actor}, 0) for actor in ("somebody", "\x00")),
        ({"since": day(1), "until": day(3)}, 0),
    ],
    ids=str,
)
def test_filters_keep_matches(admin: Admin, audited: Person, query: dict[str, str], count: int) -> None:
    assert len(about(admin, audited, **query)) == count
    texts, _ = read_trail(admin, target=audited.key, **query)
    assert len(texts) == min(count, 50)
    assert read_trail(admin, target=audited.account.object_id, **query)[0] == texts


def test_every_action_has_a_label(admin: Admin) -> None:
    page = read_page(admin.person, "/admin/audit")
    options = {str(option["value"]): option.get_text() for option in page.select("#action option")}
    assert set(options) == {"", *EVENTS}
    assert all(text and text != action for action, text in options.items())


def test_actor_filter_keeps_only_that_actor(admin: Admin, audited: Person) -> None:
    assert len(about(admin, audited, actor=admin.person.key)) == 122
    everything = read_csv(admin, actor=admin.person.key, since=day(0))
    assert {event["actor"] for event in everything} == {admin.person.key}


def test_invalid_filter_is_400(admin: Admin) -> None:
    days = ("yesterday", "2026-02-30", "2026-13-01", "'", "2026-01-01T00:00:00Z", "10000-01-01", "-1-1-1")
    queries = [{name: day} for name in ("since", "until") for day in days]
    for query in (*queries, {"target": "x"}, {"target": "x/y"}, {"target": "'/'"}):
        for path in ("/admin/audit", "/admin/audit.csv"):
            assert_error_page(admin.person.get(path, params=query), 400)


def test_csv_escapes_formulas(admin: Admin, person: Person) -> None:
    reasons = ["=1+1", "+1", "-1", "@x", "\t=1", "\uff1d1", 'a "quote", and\r\na line', "; é"]
    for reason in reasons:
        admin.do("page", person, "block", reason=reason)
    details = {event["detail"] for event in about(admin, person, action="block")}
    assert details == {"'=1+1", "'+1", "'-1", "'@x", "'=1", "'\uff1d1", 'a "quote", and a line', "; é"}
