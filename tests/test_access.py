"""The rules, inside this process, where a request would meet these cases by luck alone."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import pytest
import structlog
from flask import Flask

from tests.support.identity_rows import FOREIGN_IDENTITY
from tests.support.local_azure import LocalAzure
from tests.support.settings import TENANT
from tests.support.storage_proxy import Fault, StorageProxy
from trusted_service.errors import NotSignedIn
from trusted_service.models import AccessToken, Caller, Identity, IssuedToken, User, UserId
from trusted_service.services import Services


@pytest.fixture
def services(application: Flask) -> Services:
    services: Services = application.extensions["trusted_service"]
    return services


@pytest.fixture
def user() -> User:
    """Somebody nobody has seen."""
    return User(id=UserId(TENANT, str(uuid.uuid4())), name="Test Person", username="test@contoso.example")


def events_about(user: User, logged: Iterable[Mapping[str, object]]) -> list[object]:
    return [line["event"] for line in logged if line.get("user") == str(user.id)]


def test_bearer_whose_user_is_deleted_meanwhile_is_not_brought_back(
    azure: LocalAzure, services: Services, user: User
) -> None:
    read = Identity(
        user_id=user.id,
        name="",
        username="",
        acs_user_id=azure.new_unknown_identity(),
        created_at=datetime.now(UTC),
        last_token_at=None,
        blocked=False,
        version="",
    )
    with pytest.raises(NotSignedIn):
        services.access.issue_token(Caller(user=user, identity=read))
    assert services.lookup.find(user.id) is None


def test_sign_in_that_cannot_be_noted_does_not_fail(
    services: Services, user: User, storage_proxy: StorageProxy
) -> None:
    storage_proxy.plant(Fault(kind="status", method="GET", about=user.id.object_id))
    with structlog.testing.capture_logs() as logged:
        services.access.note_sign_in(user)
    assert events_about(user, logged) == ["sign_in_not_noted"]


def test_use_that_cannot_be_noted_does_not_fail(
    services: Services, user: User, storage_proxy: StorageProxy
) -> None:
    token = AccessToken(token="opaque", expires_on=datetime.now(UTC))
    issued = IssuedToken(access_token=token, acs_user_id=FOREIGN_IDENTITY, scopes=("chat",))
    storage_proxy.plant(Fault(kind="status", method="PATCH", about=user.id.object_id))
    with structlog.testing.capture_logs() as logged:
        services.access.note_use(Caller(user=user), issued)
    assert events_about(user, logged) == ["use_not_noted"]
