"""The audit trail: written before and after each action; what cannot be written down does not happen."""

import csv
import io
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

import pytest
from azure.data.tables import TableEntity, TableServiceClient, UpdateMode
from bs4 import BeautifulSoup

from tests.support.desk import WAYS, Desk, Way, bearer, call
from tests.support.identity_rows import find_identity_row, get_identity
from tests.support.local_azure import LocalAzure
from tests.support.log import read_events
from tests.support.pages import assert_error_page
from tests.support.person import Person
from tests.support.rows import list_rows
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import wait_until

HEADER = ["at", "action", "outcome", "actorKind", "actor", "actorName", "target", "detail", "requestId"]
ACTIONS = ["block", "unblock", "revoke", "sign-out", "delete"]

Event = dict[str, str]


def read_csv(desk: Desk, **query: str) -> list[Event]:
    """The events of audit.csv, the newest first."""
    answer = desk.person.get("/admin/audit.csv", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert answer.headers["Cache-Control"] == "no-store"
    reader = csv.DictReader(io.StringIO(answer.content.decode("utf-8"), newline=""), strict=True)
    events = list(reader)
    assert reader.fieldnames == HEADER
    return events


def about(desk: Desk, person: Person, **query: str) -> list[Event]:
    return read_csv(desk, target=person.key, **query)


def trail_rows(tables: TableServiceClient, person: Person) -> list[TableEntity]:
    return list_rows(tables, "audit", "TargetObjectId", person.account.object_id)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("action", ACTIONS)
def test_action_leaves_intent_and_outcome(
    desk: Desk, service: Service, settled: Person, action: str, way: Way
) -> None:
    answer = desk.do(way, settled, action)
    done, started = about(desk, settled, action=action)
    for event, outcome in ((started, "started"), (done, "done")):
        assert event["outcome"] == outcome
        assert (event["action"], event["target"]) == (action, settled.key)
        assert (event["actorKind"], event["actor"]) == ("administrator", desk.person.key)
        assert event["actorName"] == desk.person.account.username
        assert event["requestId"] == answer.headers["X-Request-ID"]
        at = datetime.strptime(event["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - at) < timedelta(minutes=2)
    logged = [event for event in read_events(service, answer) if event.get("actor") == desk.person.key]
    assert [(event["action"], event["outcome"]) for event in logged] == [(action, "done")]


def test_actor_of_an_app_only_token_is_the_application(azure: LocalAzure, desk: Desk, person: Person) -> None:
    token, _ = azure.mint_tokens(app=True)
    url = f"{person.url}/api/admin/users/{person.key}/block"
    assert call("POST", url, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert {event["actorKind"] for event in about(desk, person, action="block")} == {"application"}


def test_actor_of_a_bearer_token_is_its_user(azure: LocalAzure, desk: Desk, person: Person) -> None:
    url = f"{person.url}/api/admin/users/{person.key}/sign-out"
    assert call("POST", url, headers=bearer(azure, desk.person)).status_code == 200
    assert {event["actor"] for event in about(desk, person, action="sign-out")} == {desk.person.key}


def test_what_users_do_to_themselves_is_written_down(desk: Desk, settled: Person) -> None:
    settled.post("/api/me/revoke", headers=settled.csrf_headers())
    settled.http.delete(f"{settled.url}/api/me", headers=settled.csrf_headers(), timeout=30)
    for action in ("revoke", "delete"):
        events = about(desk, settled, action=action)
        assert [(event["outcome"], event["actorKind"]) for event in events] == [
            ("done", "user"),
            ("started", "user"),
        ]
        assert {event["actor"] for event in events} == {settled.key}


def test_nothing_but_ids_is_left_of_somebody_who_erased_themselves(
    tables: TableServiceClient, settled: Person
) -> None:
    settled.post("/api/me/revoke", headers=settled.csrf_headers())
    settled.http.delete(f"{settled.url}/api/me", headers=settled.csrf_headers(), timeout=30)
    rows = trail_rows(tables, settled)
    assert rows
    assert settled.account.username not in f"{rows}"
    assert settled.account.name not in f"{rows}"


def test_identity_made_at_the_first_token_is_the_systems_doing(
    desk: Desk, tables: TableServiceClient, settled: Person
) -> None:
    wait_until(lambda: bool(about(desk, settled, action="identity-created")))
    (event,) = about(desk, settled)
    assert (event["action"], event["outcome"], event["actorKind"]) == ("identity-created", "done", "system")
    assert event["detail"] == get_identity(tables, settled)
    assert event["requestId"]


def test_replaced_identity_is_the_systems_doing(
    azure: LocalAzure, desk: Desk, tables: TableServiceClient, settled: Person
) -> None:
    was = get_identity(tables, settled)
    azure.delete_identity(was)
    answer = settled.token()
    wait_until(lambda: bool(about(desk, settled, action="identity-replaced")))
    (event,) = about(desk, settled, action="identity-replaced")
    now = answer.json()["user"]["communicationUserId"]
    assert event["detail"] == f"{was} -> {now}"
    assert now == get_identity(tables, settled)
    assert event["requestId"] == answer.headers["X-Request-ID"]


def test_failed_action_says_so(azure: LocalAzure, desk: Desk, settled: Person) -> None:
    azure.plant_fault("acs", "revoke", "status", status=503, times=None)
    assert desk.act("api", settled, "revoke").status_code == 503
    failed, started = about(desk, settled, action="revoke")
    assert (started["outcome"], failed["outcome"]) == ("started", "failed")
    assert "503" in failed["detail"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("action", ACTIONS)
def test_action_whose_intent_cannot_be_written_does_not_happen(
    azure: LocalAzure,
    desk: Desk,
    settled: Person,
    storage_proxy: StorageProxy,
    action: str,
    which: int,
) -> None:
    wait_until(lambda: bool(about(desk, settled, action="identity-created")))
    if action == "unblock":
        desk.do("api", settled, "block")
    before, token = (
        desk.get_user(settled),
        settled.token().json().get("token") if action != "unblock" else None,
    )
    storage_proxy.plant(Fault(kind="status", method="P", table="audit", skip=which, status=503))
    answer = desk.act("api", settled, action)
    assert answer.status_code == 503
    assert answer.json()["code"] == "upstream_unavailable"
    storage_proxy.clear()
    assert desk.get_user(settled) == before
    if token is not None:
        assert settled.get("/api/me").status_code == 200
        assert azure.check_token(token)["valid"] is True


def test_erasure_whose_intent_cannot_be_written_does_not_happen(
    tables: TableServiceClient, settled: Person, storage_proxy: StorageProxy
) -> None:
    csrf = settled.csrf_headers()
    storage_proxy.plant(Fault(kind="status", method="P", table="audit"))
    answers = [
        settled.http.delete(f"{settled.url}/api/me", headers=csrf, timeout=30),
        settled.post("/api/me/revoke", headers=csrf),
    ]
    assert [answer.status_code for answer in answers] == [503, 503]
    storage_proxy.clear()
    assert settled.get("/api/me").status_code == 200
    assert find_identity_row(tables, settled) is not None


def test_export_whose_intent_cannot_be_written_does_not_happen(
    desk: Desk, storage_proxy: StorageProxy
) -> None:
    for path in ("/admin/users.csv", "/admin/audit.csv"):
        storage_proxy.plant(Fault(kind="status", method="P", table="audit"))
        assert_error_page(desk.person.get(path), 503)
        storage_proxy.clear()


def test_action_whose_outcome_cannot_be_written_is_done_all_the_same(
    desk: Desk, service: Service, person: Person, storage_proxy: StorageProxy
) -> None:
    storage_proxy.plant(Fault(kind="status", method="P", table="audit", skip=2))
    answer = desk.do("api", person, "block")
    storage_proxy.clear()
    assert [event["outcome"] for event in about(desk, person)] == ["started"]
    events = {event["event"]: event for event in read_events(service, answer)}
    assert events["user_updated"]["outcome"] == "done"  # the log has it
    assert "audit_not_written" in events


def test_events_are_never_changed(desk: Desk, tables: TableServiceClient, settled: Person) -> None:
    desk.do("api", settled, "block")
    before = {row["RowKey"]: row.metadata["etag"] for row in trail_rows(tables, settled)}
    for action in ("unblock", "revoke", "delete"):
        desk.do("api", settled, action)
    after = {row["RowKey"]: row.metadata["etag"] for row in trail_rows(tables, settled)}
    assert before.items() <= after.items()


def read_page(desk: Desk, **query: str) -> tuple[list[str], str | None]:
    """The text of each event on a page of the trail, and the link to the next."""
    answer = desk.person.get("/admin/audit", params=query)
    assert answer.status_code == 200
    page = BeautifulSoup(answer.text, "html.parser")
    link = page.select_one("a[rel~=next]")
    texts = [row.get_text(" ", strip=True) for row in page.select("tbody tr")]
    return texts, None if link is None else urljoin("/admin/audit", str(link["href"]))


def plant_events(tables: TableServiceClient, person: Person, ages: list[timedelta]) -> None:
    """Copy an event of the person's to these ages, where the service would have put it."""
    template = trail_rows(tables, person)[0]
    for age in ages:
        at = datetime.now(UTC) - age
        key = f"{10**17 - int(at.timestamp() * 1_000_000):017d}-{uuid.uuid4().hex[:8]}"
        partition = f"user-{person.account.object_id}-{person.account.tenant_id}"
        for name in (partition, "all"):
            row: dict[str, Any] = dict(template) | {"PartitionKey": name, "RowKey": key, "At": at}
            tables.get_table_client("audit").upsert_entity(row, mode=UpdateMode.REPLACE)


@pytest.fixture(scope="module")
def veteran(desk: Desk, tables: TableServiceClient, new_person: Callable[..., Person]) -> Person:
    """Somebody about whom there are 122 events: today's two, and one on each of 120 days before."""
    person = new_person()
    desk.do("api", person, "block", reason=f"reason-{person.account.object_id}")
    plant_events(tables, person, [timedelta(days=day) for day in range(1, 121)])
    return person


def day(ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).strftime("%Y-%m-%d")


def test_pages_show_every_event_once_newest_first(desk: Desk, veteran: Person) -> None:
    events: list[str] = []
    page, url = read_page(desk, target=veteran.key)
    events += page
    sizes = [len(page)]
    while url is not None:
        answer = desk.person.get(url)
        soup = BeautifulSoup(answer.text, "html.parser")
        rows = [row.get_text(" ", strip=True) for row in soup.select("tbody tr")]
        times = [str(tag["datetime"]) for tag in soup.select("tbody time")]
        assert times == sorted(times, reverse=True)
        events, sizes = events + rows, [*sizes, len(rows)]
        link = soup.select_one("a[rel~=next]")
        url = None if link is None else str(link["href"])
        assert url is None or "target=" in url
    assert sizes == [50, 50, 22]
    assert len(set(events)) == 122


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"since": day(0)}, 2),
        ({"until": day(0)}, 122),
        ({"since": day(10), "until": day(1)}, 10),
        ({"since": day(5)}, 7),
        ({"until": day(100)}, 21),
        ({"since": "1970-01-01"}, 122),
        ({"since": "1969-12-31"}, 122),
        ({"since": "0001-01-01"}, 122),
        ({"until": "9999-12-31"}, 122),
        ({"until": "9999-12-30"}, 122),
        ({"since": "9999-12-31"}, 0),
        ({"until": "1971-01-01"}, 0),
        ({"until": "0001-01-01"}, 0),
        ({"action": "block"}, 122),
        ({"action": "delete"}, 0),
        ({"action": "' or Action ne '"}, 0),
        ({"action": "x" * 2000}, 0),
        ({"actor": "somebody"}, 0),
        ({"actor": "\x00"}, 0),
        ({"since": day(1), "until": day(3)}, 0),
    ],
    ids=str,
)
def test_filters_leave_what_they_say(desk: Desk, veteran: Person, query: dict[str, str], count: int) -> None:
    assert len(about(desk, veteran, **query)) == count
    texts, _ = read_page(desk, target=veteran.key, **query)
    assert len(texts) == min(count, 50)


def test_filter_by_actor_leaves_that_one(desk: Desk, veteran: Person) -> None:
    assert len(about(desk, veteran, actor=desk.person.key)) == 122
    everything = read_csv(desk, actor=desk.person.key, since=day(0))
    assert everything
    assert {event["actor"] for event in everything} == {desk.person.key}


@pytest.mark.parametrize(
    "query",
    [
        *(
            {"target": "x"},
            {"target": "x/y"},
            {"target": "f00d0000-0000-4000-8000-000000000001"},
            {"target": "'/'"},
        ),
        *({"since": "yesterday"}, {"since": "2026-02-30"}, {"until": "2026-13-01"}, {"until": "'"}),
        *({"since": "2026-01-01T00:00:00Z"}, {"since": "10000-01-01"}, {"until": "-0001-01-01"}),
    ],
    ids=str,
)
def test_filter_that_means_nothing_is_400(desk: Desk, query: dict[str, str]) -> None:
    for path in ("/admin/audit", "/admin/audit.csv"):
        assert_error_page(desk.person.get(path, params=query), 400)


def test_cursor_of_another_list_is_400(desk: Desk, veteran: Person) -> None:
    _, url = read_page(desk, target=veteran.key)
    assert url is not None
    query = dict(part.split("=", 1) for part in url.partition("?")[2].split("&"))
    answer = desk.person.get(f"/api/admin/users?cursor={query['cursor']}")
    assert answer.status_code == 400, json.dumps(answer.json())[:80]


def test_formulas_are_no_formulas_in_csv(desk: Desk, person: Person) -> None:
    reasons = ["=1+1", "+1", "-1", "@x", "\t=1", "\uff1d1", 'a "quote", and\r\na line', "; é"]
    for reason in reasons:
        desk.do("page", person, "block", reason=reason)
    details = {event["detail"] for event in about(desk, person, action="block")}
    assert not [detail for detail in details if detail.startswith(("=", "+", "-", "@", "\t", "\uff1d"))]
    assert {"'=1+1", "'+1", "'-1", "'@x", 'a "quote", and\r\na line', "; é"} <= details


def test_trail_of_a_user_stands_on_their_page(desk: Desk, settled: Person) -> None:
    desk.do("page", settled, "block", reason="seen on the page")
    page = BeautifulSoup(desk.person.get(f"/admin/users/{settled.key}").text, "html.parser")
    text = page.get_text(" ", strip=True)
    assert "seen on the page" in text
    assert desk.person.account.username in text
