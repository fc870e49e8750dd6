"""Identities and tokens of Communication Services, through the real SDK."""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from azure.communication.identity import (
    CommunicationIdentityClient,
    CommunicationTokenScope,
    CommunicationUserIdentifier,
)
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from tests.local_azure.clients import get_response, open_client
from tests.local_azure.flows import ALICE, BOB
from tests.support.local_azure import LocalAzure, LocalAzureError

GUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
CHAT = [CommunicationTokenScope.CHAT]


@pytest.fixture
def client(local_azure: LocalAzure) -> Iterator[CommunicationIdentityClient]:
    """The real SDK's client."""
    with open_client(local_azure) as client:
        yield client


def read_error(error: HttpResponseError) -> tuple[int | None, str, str | None]:
    """Return status, code and target of a refusal."""
    body = get_response(error).json()["error"]
    return error.status_code, body["code"], body.get("target")


def test_identity_has_a_raw_id_of_the_resource(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    first, second = client.create_user().raw_id, client.create_user().raw_id
    assert re.fullmatch(f"8:acs:{GUID}_{GUID}", first)
    assert first.partition("_")[0] == second.partition("_")[0]
    assert local_azure.list_identities()[-2:] == [first, second]


def test_token_has_the_form_of_the_real_one(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    user, token = client.create_user_and_token(["chat", "voip"], token_expires_in=timedelta(hours=1))
    header = jwt.get_unverified_header(token.token)
    assert header.keys() == {"alg", "kid", "x5t", "typ"}
    claims = jwt.decode(token.token, options={"verify_signature": False})
    assert claims["skypeid"] == user.raw_id.removeprefix("8:")
    assert (claims["scp"], claims["csi"]) == (1792, str(claims["iat"]))
    assert claims["acsScope"] == "chat,voip"
    assert claims["resourceId"] in user.raw_id
    assert claims["exp"] - claims["iat"] == 3600
    assert local_azure.check_token(token.token) == {
        "valid": True,
        "reason": None,
        "identity": user.raw_id,
        "scopes": ["chat", "voip"],
    }


def test_expiry_is_text_with_seven_fractional_digits(client: CommunicationIdentityClient) -> None:
    _, token = client.create_user_and_token(CHAT)
    expires_on = str(token.expires_on)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}\+00:00", expires_on)
    left = datetime.fromisoformat(expires_on) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < left <= timedelta(days=1)


@pytest.mark.parametrize("minutes", [59, 1441])
def test_lifetime_outside_the_range_is_refused(client: CommunicationIdentityClient, minutes: int) -> None:
    user = client.create_user()
    with pytest.raises(HttpResponseError) as refused:
        client.get_token(user, CHAT, token_expires_in=timedelta(minutes=minutes))
    assert read_error(refused.value) == (400, "ValidationError", "ExpiresInMinutes")
    expected = f"ExpiresInMinutes value {minutes} is invalid. Value must be within the [60, 1440] interval."
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("scopes", "target", "message"),
    [
        (None, "Scopes", "Scopes: The Scopes field is required."),
        ([], "scopes", "Invalid scopes - Scopes field is required."),
        (["everything"], "scopes", "Invalid scopes"),
        ([{}], "scopes", "Invalid scopes"),
    ],
)
def test_wrong_scopes_are_refused(
    client: CommunicationIdentityClient, scopes: list[str], target: str, message: str
) -> None:
    with pytest.raises(HttpResponseError, match=re.escape(message)) as refused:
        client.get_token(client.create_user(), scopes)
    assert read_error(refused.value) == (400, "ValidationError", target)


def test_null_scopes_make_an_identity_without_a_token(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    before = len(local_azure.list_identities())
    # A defect of the SDK: it reads the token that it did not ask for.
    with pytest.raises(AttributeError):
        client.create_user_and_token(None)
    assert len(local_azure.list_identities()) == before + 1


def test_refused_creation_leaves_no_identity(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    before = local_azure.list_identities()
    for scopes, minutes in ((["everything"], 60), (["chat"], 59)):
        with pytest.raises(HttpResponseError):
            client.create_user_and_token(scopes, token_expires_in=timedelta(minutes=minutes))
    assert local_azure.list_identities() == before


def test_revocation_ends_earlier_tokens_only(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    user = client.create_user()
    before = client.get_token(user, CHAT).token
    for _ in range(3):  # within one second, where time could not tell before from after
        client.revoke_tokens(user)
        after = client.get_token(user, CHAT).token
        assert local_azure.check_token(before)["reason"] == "the token was revoked"
        assert local_azure.check_token(after)["valid"] is True
        before = after


def test_revocation_spares_other_identities(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    user, (_, other_token) = client.create_user(), client.create_user_and_token(CHAT)
    client.revoke_tokens(user)
    assert local_azure.check_token(other_token.token)["valid"] is True


def test_deletion_ends_everything(local_azure: LocalAzure, client: CommunicationIdentityClient) -> None:
    user, token = client.create_user_and_token(CHAT)
    client.delete_user(user)
    assert user.raw_id not in local_azure.list_identities()
    assert local_azure.check_token(token.token)["reason"] == "the identity was deleted"
    for call in (client.delete_user, client.revoke_tokens, lambda gone: client.get_token(gone, CHAT)):
        with pytest.raises(ResourceNotFoundError) as refused:
            call(user)
        assert read_error(refused.value) == (404, "IdentityNotFound", None)


def test_identity_of_another_resource_is_not_owned(client: CommunicationIdentityClient) -> None:
    foreign = CommunicationUserIdentifier(f"8:acs:{uuid.uuid4()}_{uuid.uuid4()}")
    with pytest.raises(ClientAuthenticationError, match="doesn't belong to the resource") as refused:
        client.get_token(foreign, CHAT)
    assert read_error(refused.value) == (401, "IdentityNotOwned", None)


def test_identity_is_deleted_behind_the_back(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    user = client.create_user()
    local_azure.delete_identity(user.raw_id)
    with pytest.raises(ResourceNotFoundError):
        client.get_token(user, CHAT)
    with pytest.raises(LocalAzureError, match="404"):
        local_azure.delete_identity(user.raw_id)


def test_foreign_and_spoilt_tokens_are_not_valid(
    local_azure: LocalAzure, client: CommunicationIdentityClient
) -> None:
    _, token = client.create_user_and_token(CHAT)
    head, _, signature = token.token.rpartition(".")
    entra_token, _ = local_azure.mint_tokens(username=ALICE)
    for wrong in (f"{head}.AAAA{signature[4:]}", entra_token, "", "x"):
        assert local_azure.check_token(wrong)["valid"] is False


def test_teams_token_is_exchanged(local_azure: LocalAzure, client: CommunicationIdentityClient) -> None:
    app, alice = local_azure.get_app(), local_azure.get_account(ALICE)
    teams_token, _ = local_azure.mint_tokens(username=ALICE, scope="teams", lifetimeSeconds=900)
    token = client.get_token_for_teams_user(teams_token, app.client_id, alice.object_id)
    verdict = local_azure.check_token(token.token)
    assert (verdict["valid"], verdict["identity"]) == (True, f"8:orgid:{alice.object_id}")
    # It lasts as long as what it was given for.
    lifetime = datetime.fromisoformat(str(token.expires_on)) - datetime.now(UTC)
    assert timedelta(seconds=840) < lifetime <= timedelta(seconds=900)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"token": "x"}, (401, "InvalidAccessToken", None)),
        ({"token": ""}, (401, "InvalidAccessToken", None)),
        ({"app": "x"}, (400, "ValidationError", "appId")),
        ({"app": str(uuid.uuid4())}, (400, "ValidationError", "appId")),
        ({"user": "x"}, (400, "ValidationError", "userId")),
        ({"user": str(uuid.uuid4())}, (400, "ValidationError", "userId")),
    ],
)
def test_wrong_exchange_is_refused(
    local_azure: LocalAzure,
    client: CommunicationIdentityClient,
    change: dict[str, str],
    error: tuple[int, str, str | None],
) -> None:
    asked = {
        "token": local_azure.mint_tokens(username=ALICE, scope="teams")[0],
        "app": local_azure.get_app().client_id,
        "user": local_azure.get_account(ALICE).object_id,
    } | change
    with pytest.raises(HttpResponseError) as refused:
        client.get_token_for_teams_user(asked["token"], asked["app"], asked["user"])
    assert read_error(refused.value) == error


@pytest.mark.parametrize(
    "wish",
    [
        {"scope": "teams", "lifetimeSeconds": -1},
        {"scope": "teams", "tamper": "unknown-kid"},
        {"scope": "teams", "claims": {"scp": "User.Read"}},
        {},
    ],
)
def test_bad_teams_token_is_refused(
    local_azure: LocalAzure, client: CommunicationIdentityClient, wish: dict[str, object]
) -> None:
    token, _ = local_azure.mint_tokens(username=BOB, **wish)
    with pytest.raises(ClientAuthenticationError) as refused:
        client.get_token_for_teams_user(
            token, local_azure.get_app().client_id, local_azure.get_account(BOB).object_id
        )
    assert read_error(refused.value) == (401, "InvalidAccessToken", None)
