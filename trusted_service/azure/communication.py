"""Azure Communication Services: the only module that knows its SDK.

https://learn.microsoft.com/rest/api/communication/identity/communication-identity
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import requests
import structlog
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
from azure.core.credentials import AccessToken as SdkAccessToken
from azure.core.credentials import AzureKeyCredential, TokenCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.utils import parse_connection_string

from trusted_service import errors
from trusted_service.azure import shares, transport
from trusted_service.azure.errors import azure_call, body_code, error_code, support_ids
from trusted_service.azure.revocations import Revocations
from trusted_service.models import AccessToken, find_resource
from trusted_service.settings import Settings
from trusted_service.texts import display_text

log = structlog.get_logger(__name__)

NO_IDENTITY: Final = "00000000-0000-0000-0000-000000000000"
NOT_FOUND_CODES: Final = ("IdentityNotFound", "UserNotFound", "ResourceNotFound", "NotFound")


class Communication:
    """Creates identities, issues and revokes their tokens. Methods raise UpstreamError."""

    def __init__(
        self, settings: Settings, credential: TokenCredential | None, session: requests.Session
    ) -> None:
        """Make the one client of this process; no network is touched. `credential` serves without a key."""
        connection_string = settings.communication_services_connection_string
        parts = parse_connection_string(connection_string) if connection_string else {}
        self._endpoint = parts.get("endpoint") or settings.communication_services_endpoint or ""
        self._session = session
        key = AzureKeyCredential(parts["accesskey"]) if "accesskey" in parts else credential
        if key is None:
            raise ValueError("neither an access key nor a credential")
        # No retries in the SDK: it would repeat a create that had happened, and obey any Retry-After.
        self._client = CommunicationIdentityClient(
            self._endpoint, key, transport=transport.new_transport(session), retry_total=0
        )
        self.shares = shares.Shares(settings.rate_limit_storage_uri, credential)
        self._revocations = Revocations(self._revoke)

    def create_identity(self, scopes: tuple[str, ...], minutes: int) -> tuple[str, AccessToken]:
        """Create an identity and its first token in one call; return its raw id (`8:acs:…`) and the token."""
        with azure_call("Communication Services"):
            user, token = self._client.create_user_and_token(
                list(scopes), token_expires_in=timedelta(minutes=minutes)
            )
            return _required(user.properties["id"]), _access_token(token)

    def issue_token(self, acs_user_id: str, scopes: tuple[str, ...], minutes: int) -> AccessToken:
        """Raises IdentityNotFound, or IdentityNotOwned if the identity belongs to another resource."""
        with _identity_call():
            user, lifetime = CommunicationUserIdentifier(acs_user_id), timedelta(minutes=minutes)
            return _access_token(self._client.get_token(user, list(scopes), token_expires_in=lifetime))

    def revoke_tokens(self, acs_user_id: str) -> None:
        """Revoke all tokens of the identity, if it exists, within 15 minutes. Raises IdentityNotOwned."""
        self._revocations.revoke(acs_user_id)

    def _revoke(self, acs_user_id: str) -> None:
        self._take("revoke")
        with contextlib.suppress(errors.IdentityNotFound), _identity_call():
            self._client.revoke_tokens(CommunicationUserIdentifier(acs_user_id))

    def delete_identity(self, acs_user_id: str) -> None:
        """Delete the identity, if it exists, which revokes its tokens. Raises IdentityNotOwned."""
        self._take("delete")
        with contextlib.suppress(errors.IdentityNotFound), _identity_call():
            self._client.delete_user(CommunicationUserIdentifier(acs_user_id))

    def _take(self, kind: shares.Kind) -> None:
        if shares.is_for_user():
            self.shares.take("users", kind)

    def exchange_teams_token(self, entra_token: str, client_id: str, object_id: str) -> AccessToken:
        """Exchange a Teams user's Entra ID token, issued to `client_id`. Raises InvalidTeamsToken."""
        with azure_call("Communication Services", expected=(errors.InvalidTeamsToken,)):
            try:
                token = self._client.get_token_for_teams_user(entra_token, client_id, object_id)
            except HttpResponseError as error:
                # A 401 with another code (Denied) is about our own key, not about the token.
                refused = error.status_code == 401 and error_code(error) == "InvalidAccessToken"
                if error.status_code == 400 or refused:
                    details = {"upstream_code": display_text(error_code(error)), **support_ids(error)}
                    raise errors.InvalidTeamsToken("refused-upstream", details) from error
                raise
            return _access_token(token)

    def check(self) -> None:
        """Raises UpstreamUnavailable unless the service responds; any HTTP response will do."""
        with azure_call("Communication Services"):
            self._session.head(self._endpoint, allow_redirects=False)

    def owns(self, resource: str) -> bool:
        """Revoke the tokens of an identity that cannot exist; return False if it is another resource's."""
        try:
            self._revoke(f"{resource}_{NO_IDENTITY}")
        except errors.IdentityNotOwned:
            return False
        return True

    def find_own_resource(self) -> str | None:
        """The resource that responds; None for an unusual id. Creates an identity and deletes it again."""
        with azure_call("Communication Services"):
            acs_user_id = _required(self._client.create_user().properties["id"])
        try:
            self.delete_identity(acs_user_id)
        except errors.UpstreamError as error:
            log.error("identity_orphaned", acs_user_id=acs_user_id, reason=error.reason)
            raise
        return find_resource(acs_user_id)


@contextmanager
def _identity_call() -> Iterator[None]:
    """A call about one identity. Raises IdentityNotFound or IdentityNotOwned if the service itself says so.

    A 404 without a code of the service is a gateway's, and a 401 with another code (Denied) is about our key.
    """
    with azure_call("Communication Services", expected=(errors.IdentityNotFound, errors.IdentityNotOwned)):
        try:
            yield
        except ResourceNotFoundError as error:
            if body_code(error) in NOT_FOUND_CODES:
                raise errors.IdentityNotFound from error
            raise
        except ClientAuthenticationError as error:
            if (code := body_code(error)) == "IdentityNotOwned":
                raise errors.IdentityNotOwned("Communication Services", f"HTTP 401 {code}") from error
            raise


def _required(value: object) -> str:
    """Raises ValueError for what a response must contain: the SDK passes it on as it comes."""
    if not isinstance(value, str) or not value:
        raise ValueError("the response is incomplete")
    return value


def _access_token(token: SdkAccessToken) -> AccessToken:
    # Despite its annotation the SDK returns the service's own text, with seven fractional digits.
    expires_on = datetime.fromisoformat(str(token.expires_on))
    return AccessToken(token=_required(token.token), expires_on=expires_on.astimezone(UTC))
