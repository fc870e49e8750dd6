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

from trusted_service import connections, upstream
from trusted_service.azure_errors import azure_call, body_code, error_code
from trusted_service.config import ServiceSettings, connection_parts
from trusted_service.errors import (
    COMMUNICATION_SERVICES,
    IdentityNotFound,
    IdentityNotOwned,
    InvalidTeamsToken,
    UpstreamError,
    UpstreamUnavailable,
)
from trusted_service.models import AccessToken, find_resource

log = structlog.get_logger(__name__)

SERVICE: Final = COMMUNICATION_SERVICES
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
NOT_FOUND_CODES: Final = ("IdentityNotFound", "UserNotFound", "ResourceNotFound", "NotFound")
_ABOUT_IDENTITY = (IdentityNotFound, IdentityNotOwned)


class Communication:
    """Creates identities, issues and revokes their tokens. Safe to share between threads.

    Every method raises UpstreamThrottled or UpstreamUnavailable where the service says no or nothing.
    """

    def __init__(self, client: CommunicationIdentityClient, endpoint: str, session: requests.Session) -> None:
        self._client = client
        self._endpoint = endpoint
        self._session = session

    @classmethod
    def connect(
        cls, settings: ServiceSettings, credential: TokenCredential | None, session: requests.Session
    ) -> "Communication":
        """Make the one client of this process; no network is touched. `credential` serves without a key."""
        parts = connection_parts(settings.connection_string or "")
        # A trailing slash would sign a wrong host, and the SDK's own parser would drop the scheme.
        endpoint = (parts.get("endpoint") or settings.endpoint or "").rstrip("/")
        key = AzureKeyCredential(parts["accesskey"]) if "accesskey" in parts else credential
        if key is None:
            raise ValueError("neither an access key nor a credential")
        # No retries in the SDK: it would repeat a create that had happened, and obey any Retry-After.
        client = CommunicationIdentityClient(
            endpoint, key, transport=connections.new_transport(session), retry_total=0
        )
        return cls(client, endpoint, session)

    def create_identity(self, scopes: tuple[str, ...], minutes: int) -> tuple[str, AccessToken]:
        """Create an identity and its first token in one call; return its raw id (`8:acs:…`) and the token."""
        with azure_call(SERVICE):
            user, token = self._client.create_user_and_token(
                list(scopes), token_expires_in=timedelta(minutes=minutes)
            )
            return _required(user.properties["id"]), _access_token(token)

    def issue_token(self, acs_user_id: str, scopes: tuple[str, ...], minutes: int) -> AccessToken:
        """Raises IdentityNotFound, or IdentityNotOwned where the identity belongs to another resource."""
        with _identity_call():
            user, lifetime = CommunicationUserIdentifier(acs_user_id), timedelta(minutes=minutes)
            token = self._client.get_token(user, list(scopes), token_expires_in=lifetime)
            return _access_token(token)

    def revoke_tokens(self, acs_user_id: str) -> None:
        """End all tokens of the identity, within 15 minutes everywhere; one that does not exist has none.

        Raises IdentityNotOwned where it belongs to another resource: then its tokens are as good as before.
        """
        with contextlib.suppress(IdentityNotFound), _identity_call():
            self._client.revoke_tokens(CommunicationUserIdentifier(acs_user_id))

    def delete_identity(self, acs_user_id: str) -> None:
        """Delete the identity, which ends all of its tokens; one that does not exist is fine.

        Raises IdentityNotOwned where it belongs to another resource.
        """
        with contextlib.suppress(IdentityNotFound), _identity_call():
            self._client.delete_user(CommunicationUserIdentifier(acs_user_id))

    def exchange_teams_token(self, entra_token: str, client_id: str, object_id: str) -> AccessToken:
        """Exchange a Teams user's Entra ID token, issued to `client_id`, for one that lasts as long.

        Raises InvalidTeamsToken where the service does not take it.
        """
        with azure_call(SERVICE, expected=(InvalidTeamsToken,)), _noticing_refusal():
            token = self._client.get_token_for_teams_user(entra_token, client_id, object_id)
            return _access_token(token)

    def check(self) -> None:
        """Raises UpstreamUnavailable unless the service responds; any HTTP response will do."""
        try:
            with upstream.call(SERVICE):
                self._session.head(self._endpoint, allow_redirects=False)
        except (requests.RequestException, upstream.NotSent) as error:
            raise UpstreamUnavailable(SERVICE, "not reachable") from error

    def owns(self, resource: str) -> bool:
        """Whether the service may be that resource; False where it says that it is another one.

        Revokes the tokens of an identity that cannot exist, which creates and changes nothing. Raises
        UpstreamError where it says neither.
        """
        try:
            self.revoke_tokens(f"{resource}_{NOBODY}")
        except IdentityNotOwned:
            return False
        return True

    def find_own_resource(self) -> str | None:
        """The resource that answers, by an identity that is created and deleted again; None for an odd id."""
        with azure_call(SERVICE):
            acs_user_id = _required(self._client.create_user().properties["id"])
        try:
            self.delete_identity(acs_user_id)
        except UpstreamError as error:
            log.error("identity_orphaned", acs_user_id=acs_user_id, reason=error.reason)
        return find_resource(acs_user_id)


@contextmanager
def _identity_call() -> Iterator[None]:
    """A call about one identity. Raises IdentityNotFound or IdentityNotOwned where the service itself says
    so.

    What a deleted identity gets is not documented. A 404 without a code of the service's own is that of
    something in between, and a 401 with another code (Denied) is about our key.
    """
    with azure_call(SERVICE, expected=_ABOUT_IDENTITY):
        try:
            yield
        except ResourceNotFoundError as error:
            if body_code(error) in NOT_FOUND_CODES:
                raise IdentityNotFound from error
            raise
        except ClientAuthenticationError as error:
            if body_code(error) == "IdentityNotOwned":
                raise IdentityNotOwned from error
            raise


@contextmanager
def _noticing_refusal() -> Iterator[None]:
    # A 401 with another code (Denied) is about our own key, not about the token.
    try:
        yield
    except HttpResponseError as error:
        code = error_code(error)
        if error.status_code == 400 or (error.status_code == 401 and code == "InvalidAccessToken"):
            raise InvalidTeamsToken("refused-upstream") from error
        raise


def _required(value: object) -> str:
    """Raises ValueError for what an answer must not leave out: the SDK passes it on as it comes."""
    if not isinstance(value, str) or not value:
        raise ValueError("the answer leaves something out")
    return value


def _access_token(token: SdkAccessToken) -> AccessToken:
    # Despite its annotation the SDK hands the service's own text over, with seven fractional digits.
    expires_on = datetime.fromisoformat(str(token.expires_on))
    return AccessToken(token=_required(token.token), expires_on=expires_on.astimezone(UTC))
