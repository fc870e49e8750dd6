"""What is stored about a person in every table: their export has it, and their erasure removes it."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.data.tables import TableServiceClient
from flask import Flask

from tests.support.admin_client import ROLE, Admin
from tests.support.commands import read_json, repair, run_command
from tests.support.concurrency import timed, wait_until
from tests.support.jobs import JobAdmin
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import find_entry, find_identity_row, list_rows, list_sessions, wait_until_indexed
from tests.support.seed import create_identities, put_rows
from tests.support.service import Service
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.personal_data import MAX_EVENTS

TABLES = {"identities", "sessions", "audit", "userindex", "ledger", "jobs", "usage", "administrators"}
"""All that the service has. `usage` is about nobody, and `userindex` repeats `identities`."""
KEEPS_IDS = {"audit", "jobs"}
"""Where an erased user's object id stays, as docs/security.md says."""
REASON = "seen as [identity]"


def list_texts(tables: TableServiceClient) -> Iterator[tuple[str, str]]:
    """Each row of every table as text in lower case, with the table's name."""
    names = {table.name for table in tables.list_tables() if not table.name.startswith("own")}  # other tests'
    assert names <= TABLES
    for name in sorted(names):
        for row in tables.get_table_client(name).list_entities():
            yield name, json.dumps(row, default=str, ensure_ascii=False).lower()


def trail_of(person: Person) -> str:
    return f"user-{person.account.object_id}-{person.account.tenant_id}"


def put_events(
    target: Person, *events: Mapping[str, str], days: int = 1, partitions: Sequence[str] = ()
) -> None:
    """Write events about the target, one a microsecond, to the trail as older versions did."""
    begin = datetime.now(UTC) - timedelta(days=days)
    ids = {"TargetTenantId": target.account.tenant_id, "TargetObjectId": target.account.object_id}
    plain = {"ActorKind": "system", "ActorKey": "system", "ActorName": "", "Action": "revoke"}
    plain |= {"Outcome": "done", "Detail": "", "RequestId": "", "ActionId": "", **ids}
    rows: list[dict[str, object]] = []
    for number, event in enumerate(events):
        at = begin + timedelta(microseconds=number)
        key = f"{10**17 - int(at.timestamp() * 1_000_000):017d}-00000000"
        for partition in partitions or ("all", trail_of(target)):
            rows.append({"PartitionKey": partition, "RowKey": key, "At": at, **plain, **event})
    put_rows(target.azure.env, "audit", rows)


def put_former(person: Person, acs_user_id: str) -> None:
    """Write an identity that the person had until yesterday to the ledger."""
    at = datetime.now(UTC) - timedelta(days=1)
    ids = {"TenantId": person.account.tenant_id, "ObjectId": person.account.object_id}
    row = {"AcsUserId": acs_user_id, "Since": at, "Until": at, "Reason": "replaced", **ids}
    keys = (acs_user_id.lower(), "identity"), (trail_of(person), acs_user_id.lower())
    put_rows(person.azure.env, "ledger", [{"PartitionKey": one, "RowKey": two, **row} for one, two in keys])


@dataclass
class Life:
    """A user with two browsers, two identities and a trail, and another whom they acted on if they may."""

    person: Person
    other: Person
    was: str
    now: str

    @property
    def names(self) -> dict[str, str]:
        """The columns that name the person as an actor, as in older versions."""
        return {
            "ActorKind": "administrator",
            "ActorKey": self.person.key,
            "ActorName": self.person.account.username,
        }


@pytest.fixture
def live(admin: Admin, new_person: Callable[..., Person]) -> Callable[..., Life]:
    def make(*roles: str) -> Life:
        person, other = new_person(name=f"Zoë {uuid.uuid4().hex}", roles=[*roles]).signed_in(), new_person()
        (was,) = create_identities(person.azure.env, 1)
        life = Life(person, other, was, person.token().json()["user"]["communicationUserId"])
        put_former(person, was)
        jobs = JobAdmin(admin.person)
        wait_until_indexed(jobs.tables, person.account.object_id)
        admin.do("page", person, "block", reason=f"{person.account.name}, said Ada Ministrator")
        admin.do("api", person, "unblock")
        reason = REASON.replace("[identity]", life.now)
        jobs.finish(jobs.draft(jobs.select("block", [person.key, other.key])), reason=reason)
        admin.do("api", person, "unblock")
        person.signed_in().in_new_browser()
        if roles:
            own = JobAdmin(person)
            Admin(person).do("page", other, "block", reason=f"{other.account.name} has left")
            own.cancel(own.draft(own.select("delete", [other.key])))
        assert person.post("/api/me/revoke", headers=person.csrf_headers()).status_code == 204
        failed = {"Action": "delete", "Outcome": "failed", "Detail": f"tokens of {life.now} may be valid"}
        put_events(person, {"Action": "identity-replaced", "Detail": f"{was} -> {life.now}"}, failed)
        return life

    return make


@pytest.mark.parametrize("kind", ["user", "administrator", "blocked"])
def test_erasure_removes_person_from_every_table(
    live: Callable[..., Life], admin: Admin, tables: TableServiceClient, kind: str
) -> None:
    life = live(*[ROLE] * (kind == "administrator"))
    person, account, sessions = life.person, life.person.account, list_sessions(tables, life.person)
    secrets = {str(row["LoginHint"]).lower() for row in sessions}
    secrets |= {account.name.lower(), account.username.lower()}
    assert len(sessions) >= 2
    if kind == "blocked":
        admin.do("page", person, "block", reason=f"stays, unlike {life.now}")
        admin.do("api", person, "delete")
    else:
        assert person.erase().status_code == 204
    kept = KEEPS_IDS | ({"identities", "userindex"} if kind == "blocked" else set())

    def is_leftover(table: str, row: str) -> bool:
        is_own = account.object_id in row
        is_linked = is_own and (life.was.lower() in row or life.now.lower() in row)
        return is_linked or (is_own and table not in kept) or any(secret in row for secret in secrets)

    wait_until(lambda: not [row for row in list_texts(tables) if is_leftover(*row)])
    assert not list_sessions(tables, person)
    reason = "stays, unlike [identity]" if kind == "blocked" else None
    events = list_rows(tables, "audit", "PartitionKey", trail_of(person))
    assert {row["Detail"] for row in events if row["Action"] == "block"} <= {"", reason}
    row = find_identity_row(tables, person)
    assert (row and row["BlockReason"]) == reason
    if reason:
        admin.do("api", person, "unblock")
        wait_until(lambda: reason not in str(list_rows(tables, "audit", "PartitionKey", trail_of(person))))
    for identity in (life.was, life.now):
        assert not {"Since", "Until"} & (find_entry(tables, identity) or {"Until": "none"}).keys()


def test_repair_removes_names_of_older_versions(
    live: Callable[..., Life], tables: TableServiceClient, service: Service
) -> None:
    life = live(ROLE)
    put_events(life.other, life.names)
    (header, *_) = list_rows(tables, "jobs", "ActorKey", life.person.key)
    put_rows(life.person.azure.env, "jobs", [{**header, **life.names}])
    repair(service.env)
    for table in ("audit", "jobs"):
        assert not list_rows(tables, table, "ActorName", life.person.account.username)


def test_export_covers_every_table(
    live: Callable[..., Life], admin: Admin, tables: TableServiceClient, application: Flask
) -> None:
    life = live(ROLE)
    person, other = life.person, life.other
    document = person.get("/api/me/export").json()
    assert document["complete"] is True
    assert document["user"]["communicationUserId"] == life.now
    assert [one["communicationUserId"] for one in document["identities"]] == [life.now, life.was]
    for session in document["sessions"]:
        assert (session["name"], session["username"]) == (person.account.name, person.account.username)
    assert {one["loginHint"] for one in document["sessions"]} == {
        row["LoginHint"] for row in list_sessions(tables, person)
    }
    about, by = ([one for one in document["audit"] if one["target"] == to] for to in (person.key, None))
    assert {"block", "unblock", "revoke", "identity-created", "delete"} <= {one["action"] for one in about}
    assert {f"{person.account.name}, said Ada Ministrator", REASON} <= {one["detail"] for one in about}
    assert {one["actor"] for one in about if one["actorKind"] == "administrator"} == {None}
    assert [(one["action"], one["outcome"], one["actor"]) for one in by] == [
        ("cancel-job", "done", person.key), ("block", "done", person.key)
    ]  # fmt: skip
    about_one = {"action": "block", "state": "done", "reason": REASON, "check": "found", "result": "done"}
    (job,) = [one for one in document["jobs"] if not one["startedByYou"]]
    assert about_one.items() <= job.items()
    assert job["createdAt"] <= job["endedAt"]
    assert {one["state"] for one in document["jobs"] if one["startedByYou"]} == {"cancelled"}
    text = json.dumps(document, ensure_ascii=False)
    for others in (admin.person.account, other.account):
        assert others.object_id not in text
        assert others.username not in text
    exported = read_json(run_command(application, "users", "export", person.key))
    assert exported["audit"][1:] == document["audit"]  # after the beginning of the export itself
    everybody = read_json(run_command(application, "users", "export"))
    (same,) = [one for one in everybody if one["user"] == document["user"]]
    assert (same["jobs"], same["audit"][2:]) == (document["jobs"], document["audit"])


def test_erasure_with_failing_trail_ends_later(
    mapped_user: Person, tables: TableServiceClient, storage_proxy: StorageProxy
) -> None:
    trail = trail_of(mapped_user)
    put_events(mapped_user, *[{"Action": "block", "Detail": REASON}] * 250)
    put_events(mapped_user, {"Action": "block", "Detail": REASON}, days=2, partitions=[trail])  # half purged
    storage_proxy.plant(Fault(kind="status", method="GET", table="audit", about=trail, times=1))
    assert_problem(mapped_user.erase(), 503, "upstream_unavailable")
    wait_until(lambda: find_identity_row(tables, mapped_user) is None)
    rows = list_rows(tables, "audit", "TargetObjectId", mapped_user.account.object_id)
    assert {row["Detail"] for row in rows if row["Action"] == "block"} == {""}
    writes = [call for call in storage_proxy.calls() if '"Detail": ""' in call.text]
    assert len(writes) < 100, "transactions, but for the rows that only one partition has"


def test_export_of_long_trail_ends_in_time(mapped_user: Person, application: Flask) -> None:
    events = [{"RequestId": str(number)} for number in range(MAX_EVENTS + 100)]
    put_events(mapped_user, *events, partitions=[trail_of(mapped_user)])
    response, seconds = timed(lambda: mapped_user.get("/api/me/export"))
    assert seconds < 15
    document = response.json()
    assert (len(document["audit"]), document["complete"]) == (MAX_EVENTS, False)
    whole: dict[str, Any] = read_json(run_command(application, "users", "export", mapped_user.key))
    assert len(whole["audit"]) > len(events)
    assert whole["complete"] is True
