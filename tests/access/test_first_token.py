"""First token: exactly one identity per user, however many concurrent requests; tokens are recorded."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import requests
import structlog

from tests.support.admin_client import bearer, call
from tests.support.concurrency import run_concurrently, wait_until
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.rows import FOREIGN_IDENTITY, age_session, insert_identity_row, list_mentions
from tests.support.service import Service
from tests.support.settings import TENANT
from tests.support.storage_proxy import Fault
from trusted_service.access.service import AccessService
from trusted_service.errors import NotSignedIn
from trusted_service.models import AccessToken, Caller, Identity, IssuedToken, User, UserId
from trusted_service.services import Services

REQUESTS = 50
SECOND = timedelta(seconds=1)


def test_first_tokens_create_one_identity(world: World, signed_in: Person, other_service: Service) -> None:
    """Fifty requests, from two sessions and by bearer token, reach two instances concurrently."""
    urls, headers = (world.service.url, other_service.url), bearer(world.azure, signed_in)
    sessions = [(browser, browser.csrf_headers()) for browser in (signed_in, signed_in.in_new_browser())]
    calls: list[Callable[[], requests.Response]] = []
    for url in urls * (REQUESTS // 10):
        calls += [partial(browser.at(url).token, csrf=csrf) for browser, csrf in sessions * 2]
        calls.append(partial(call, "POST", f"{url}/api/token", headers=headers))
    before = set(world.azure.list_identities())
    responses = run_concurrently(calls)
    assert [response.status_code for response in responses] == [200] * REQUESTS
    (identity,) = set(world.azure.list_identities()) - before
    assert {response.json()["user"]["communicationUserId"] for response in responses} == {identity}
    for response in responses:
        check = world.azure.check_token(response.json()["token"])
        assert (check["valid"], check["identity"]) == (True, identity)
    (row,) = list_mentions(world.tables, signed_in)
    assert row["AcsUserId"] == identity


def test_object_id_in_two_tenants_is_two_users(world: World, signed_in: Person) -> None:
    foreign = world.azure.get_account("guest@fabrikam.example").tenant_id
    namesake = Person(world.azure, signed_in.url, replace(signed_in.account, tenant_id=foreign))
    insert_identity_row(world.tables, namesake, acs_user_id="8:acs:of-somebody-else", blocked=True)
    response = signed_in.token()
    assert response.status_code == 200
    row = world.find_row(signed_in)
    assert row is not None
    assert row["AcsUserId"] == response.json()["user"]["communicationUserId"]


def test_first_token_writes_the_documented_row(world: World) -> None:
    object_id = str(uuid.uuid4())
    identities = world.azure.list_identities()
    person = world.new_person(name="Zoë O'Hara <b>", objectId=object_id.upper()).signed_in()
    assert list_mentions(world.tables, person) == []
    assert world.azure.list_identities() == identities, "a sign-in creates no identity"
    before = datetime.now(UTC)
    identity = person.token().json()["user"]["communicationUserId"]
    after = datetime.now(UTC)
    (row,) = list_mentions(world.tables, person)
    assert (row["PartitionKey"], row["RowKey"]) == (object_id, person.account.tenant_id.lower())
    expected = {"AcsUserId": identity, "Name": "Zoë O'Hara <b>", "Username": person.account.username}
    assert row | expected | {"Blocked": False} == row
    for column in ("CreatedAt", "LastTokenAt"):
        assert before - SECOND <= row[column] <= after + SECOND


def test_warm_token_reads_once_and_issues_once(world: World, signed_in: Person) -> None:
    csrf = signed_in.csrf_headers()
    identity = signed_in.token(csrf=csrf).json()["user"]["communicationUserId"]
    wait_until(lambda: [row.get("AcsUserId") for row in world.list_sessions(signed_in)] == [identity])
    entra_before = world.azure.count_calls("entra")
    responses = [signed_in.token(csrf=csrf) for _ in range(5)]
    assert [response.status_code for response in responses] == [200] * 5
    world.storage.wait_until_quiet()
    for response in responses:
        assert response.json()["user"]["communicationUserId"] == identity
        calls = [(call.method, call.table) for call in world.storage.calls_for(response)]
        assert calls == [("GET", "sessions")]
        assert world.azure.calls_for(response) == ["issue"]
    assert world.azure.count_calls("entra") == entra_before


def test_later_token_is_recorded_once(world: World, mapped_user: Person) -> None:
    csrf = mapped_user.csrf_headers()
    world.storage.wait_until_quiet()
    past = datetime.now(UTC) - timedelta(minutes=30)
    world.change_row(mapped_user, LastTokenAt=past)
    age_session(world.tables, mapped_user, "TokenNotedAt", timedelta(minutes=30))
    (before,) = world.list_rows(mapped_user)
    assert mapped_user.token(csrf=csrf).status_code == 200
    recent = past + timedelta(minutes=29)
    wait_until(lambda: any(row["LastTokenAt"] > recent for row in world.list_rows(mapped_user)))
    (after,) = world.list_rows(mapped_user)
    assert after | {"LastTokenAt": None} == before | {"LastTokenAt": None}
    response = mapped_user.token(csrf=csrf)
    assert response.status_code == 200
    world.storage.wait_until_quiet()
    assert {call.method for call in world.storage.calls_for(response)} == {"GET"}


def test_deleted_row_ends_the_request(world: World, services: Services) -> None:
    user = User(id=UserId(TENANT, str(uuid.uuid4())), name="", username="")
    past = datetime.now(UTC) - timedelta(hours=1)
    unknown = world.azure.new_unknown_identity()
    gone = Identity(user_id=user.id, created_at=past, acs_user_id=unknown, version='W/"x"')
    _, session = services.sessions.create(user)
    for caller in (
        Caller(user=user, identity=gone),
        Caller(user=user, session=replace(session, acs_user_id=FOREIGN_IDENTITY)),
    ):
        with pytest.raises(NotSignedIn):
            services.access.issue_token(caller, ("chat",), 60)
        assert services.access.recording(caller, None) is None
    assert services.identities.find(user.id) is None
    assert services.sessions.list_by_user(user.id) == []


def record_token(access: AccessService, user: User) -> None:
    token = AccessToken(token="opaque", expires_on=datetime.now(UTC))
    issued = IssuedToken(access_token=token, acs_user_id=FOREIGN_IDENTITY, scopes=("chat",))
    record = access.recording(Caller(user=user), issued)
    assert record is not None
    record()


@pytest.mark.parametrize(
    ("method", "record", "event"),
    [
        ("GET", AccessService.record_sign_in, "sign_in_not_recorded"),
        ("PATCH", record_token, "use_not_recorded"),
    ],
)
def test_failure_to_record_is_logged(
    world: World, services: Services, method: str, record: Callable[[AccessService, User], None], event: str
) -> None:
    user = User(id=UserId(TENANT, str(uuid.uuid4())), name="Test Person", username="test@contoso.example")
    world.storage.plant(Fault(kind="status", method=method, about=user.id.object_id))
    with structlog.testing.capture_logs() as logged:
        record(services.access, user)
    assert [line["event"] for line in logged if line.get("user") == str(user.id)] == [event]
