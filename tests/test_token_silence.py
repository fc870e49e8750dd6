"""Upstreams that say nothing, or too slowly: the answer comes within 15 s all the same, nobody else waits.

Silence costs seconds, so everybody suffers side by side, once; the tests look at how each of them fared.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.identity_rows import list_identity_rows
from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.rows import get_session
from tests.support.storage_proxy import Fault, StorageProxy
from tests.support.together import run_together, timed, wait_until
from tests.support.upstream_calls import (
    CREATE,
    IDENTITY_READ,
    INSERT,
    ISSUE,
    LAST_LOOK,
    SESSION_READ,
    Kind,
    UpstreamCall,
    Upstreams,
)

LIMIT_SECONDS = 15.0
AT_ONCE_SECONDS = 2.0
TOO_SLOW_SECONDS = 8.0
"""Longer than the service waits for any one call."""

SILENCES: tuple[Kind, ...] = ("hang", "drip", "delay")
STORAGE_CALLS = (SESSION_READ, IDENTITY_READ, INSERT, LAST_LOOK)
ORPHANS = 2
"""Creates that are done although their answer never comes: one late, one that fails afterwards."""


@dataclass(frozen=True)
class Sufferer:
    """A person, the call behind their token request that is silent, and in which way."""

    person: Person
    csrf: dict[str, str]
    partition: str

    def ask(self) -> requests.Response:
        return self.person.token(csrf=self.csrf)


@dataclass(frozen=True)
class Silence:
    """How everybody fared: answers and seconds by name, during the silence and right after it."""

    sufferers: dict[str, Sufferer]
    during: dict[str, tuple[requests.Response, float]]
    after: dict[str, tuple[requests.Response, float]]
    bystanders: dict[str, tuple[requests.Response, float]]
    identities_before: set[str]


def name_case(call: UpstreamCall, kind: str) -> str:
    return f"{call} {kind}"


EVERYTHING, LATE_WRITE = "everything is slow", "late write"
CREATES = [name_case(CREATE, kind) for kind in (*SILENCES, "fail-after-commit")]
ISSUES = [name_case(ISSUE, kind) for kind in (*SILENCES, "fail-after-commit")]
STORAGE = {name_case(call, kind): (call, kind) for call in STORAGE_CALLS for kind in SILENCES}
REFUSED = [*STORAGE, *CREATES, *ISSUES, EVERYTHING]


@pytest.fixture(scope="module")
def silence(
    azure: LocalAzure,
    storage_proxy: StorageProxy,
    tables: TableServiceClient,
    new_person: Callable[..., Person],
    regular: Person,
) -> Silence:
    """Let everybody ask for a token while the call that is theirs is silent, and again when all is well."""
    upstreams = Upstreams(azure, storage_proxy)

    def arrive(name: str) -> Sufferer:
        person = new_person()
        person.sign_in()
        csrf = person.csrf_headers()
        if name in ISSUES:
            assert person.token(csrf=csrf).status_code == 200
        return Sufferer(person, csrf, get_session(tables, person)["PartitionKey"])

    names = [*REFUSED, LATE_WRITE]
    sufferers = dict(zip(names, run_together([partial(arrive, name) for name in names]), strict=True))
    before = set(azure.list_identities())

    def about(name: str, call: UpstreamCall) -> str:
        sufferer = sufferers[name]
        return sufferer.partition if call.table == "sessions" else sufferer.person.account.object_id

    for call in (CREATE, ISSUE):
        for kind in SILENCES:
            upstreams.plant(call, kind, times=1, seconds=TOO_SLOW_SECONDS if kind == "delay" else 1)
        azure.plant_fault("acs", call.acs, "fail-after-commit", then="hang")
    for name, (call, kind) in STORAGE.items():
        seconds = TOO_SLOW_SECONDS if kind == "delay" else 1
        upstreams.plant(call, kind, seconds=seconds, about=about(name, call))
    for call in (SESSION_READ, IDENTITY_READ):
        upstreams.plant(call, "delay", seconds=4.5, times=1, about=about(EVERYTHING, call))
    for call in (IDENTITY_READ, INSERT):
        upstreams.plant(call, "hang", about=about(EVERYTHING, call))
    late = sufferers[LATE_WRITE].partition
    storage_proxy.plant(Fault(kind="hang", method="P", table="sessions", about=late))

    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        acs_first = [*CREATES, *ISSUES]
        asking = {name: pool.submit(timed, sufferers[name].ask) for name in acs_first}
        # Faults of Communication Services strike whoever comes first: these, and then nobody else.
        wait_until(lambda: not azure.list_faults())
        asking |= {name: pool.submit(timed, sufferers[name].ask) for name in names if name not in asking}
        bystander = regular.at(regular.url)
        bystanders = {
            "/healthz": timed(partial(requests.get, f"{regular.url}/healthz", timeout=LIMIT_SECONDS)),
            "/ signed out": timed(partial(requests.get, f"{regular.url}/", timeout=LIMIT_SECONDS)),
            "/": timed(partial(bystander.get, "/")),
            "/api/me": timed(partial(bystander.get, "/api/me")),
            "/api/token": timed(bystander.token),
        }
        asking[LATE_WRITE].result()
        bystanders["next on the connection"] = timed(sufferers[LATE_WRITE].ask)
        wait([future for name, future in asking.items() if name != EVERYTHING])
        azure.plant_fault("acs", "delete", "hang", times=None)
        during = {name: future.result() for name, future in asking.items()}
    upstreams.clear()
    after = {name: timed(sufferers[name].ask) for name in names}
    return Silence(sufferers, during, after, bystanders, before)


@pytest.mark.parametrize("name", REFUSED)
def test_silence_is_answered_in_time_and_plainly(silence: Silence, name: str) -> None:
    answer, seconds = silence.during[name]
    assert_problem(answer, 503, "upstream_unavailable")
    assert answer.headers["Retry-After"].isdigit()
    assert seconds < LIMIT_SECONDS


@pytest.mark.parametrize("name", REFUSED)
def test_next_request_after_silence_works_at_once(
    azure: LocalAzure, tables: TableServiceClient, silence: Silence, name: str
) -> None:
    answer, seconds = silence.after[name]
    assert answer.status_code == 200
    assert seconds < AT_ONCE_SECONDS
    check = azure.check_token(answer.json()["token"])
    (row,) = list_identity_rows(tables, silence.sufferers[name].person)
    assert row["AcsUserId"] == answer.json()["user"]["communicationUserId"] == check["identity"]
    assert check["valid"] is True


@pytest.mark.parametrize("name", ["/healthz", "/ signed out", "/", "/api/me", "/api/token"])
def test_nobody_else_waits_during_silence(silence: Silence, name: str) -> None:
    answer, seconds = silence.bystanders[name]
    assert answer.status_code == 200
    assert seconds < AT_ONCE_SECONDS


def test_write_after_the_answer_holds_nobody_up(silence: Silence) -> None:
    for answer, seconds in (silence.during[LATE_WRITE], silence.bystanders["next on the connection"]):
        assert answer.status_code == 200
        assert seconds < AT_ONCE_SECONDS


def test_silence_leaves_no_more_orphans_than_creates_without_answer(
    azure: LocalAzure, silence: Silence
) -> None:
    owned = {answer.json()["user"]["communicationUserId"] for answer, _ in silence.after.values()}

    def orphans() -> set[str]:
        return set(azure.list_identities()) - silence.identities_before - owned

    wait_until(lambda: len(orphans()) <= ORPHANS, seconds=10)
