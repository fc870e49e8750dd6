"""Azure Communication Services: the only module that knows its SDK.

https://learn.microsoft.com/rest/api/communication/identity/communication-identity
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import requests
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
from azure.core.credentials import AccessToken as SdkAccessToken
from azure.core.credentials import AzureKeyCredential, TokenCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from trusted_service import connections, upstream
from trusted_service.azure_errors import azure_call, error_code
from trusted_service.config import ServiceSettings, connection_parts
from trusted_service.errors import IdentityGone, InvalidTeamsToken, UpstreamUnavailable
from trusted_service.models import AccessToken

SERVICE: Final = "Communication Services"


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
        """Raises IdentityGone where the service does not know the identity (any more)."""
        with azure_call(SERVICE, expected=(IdentityGone,)), _noticing_gone():
            user, lifetime = CommunicationUserIdentifier(acs_user_id), timedelta(minutes=minutes)
            token = self._client.get_token(user, list(scopes), token_expires_in=lifetime)
            return _access_token(token)

    def revoke_tokens(self, acs_user_id: str) -> None:
        """End all tokens of the identity, within 15 minutes everywhere; one that is gone already is fine."""
        try:
            with azure_call(SERVICE, expected=(IdentityGone,)), _noticing_gone():
                self._client.revoke_tokens(CommunicationUserIdentifier(acs_user_id))
        except IdentityGone:
            return

    def delete_identity(self, acs_user_id: str) -> None:
        """Delete the identity, which ends all of its tokens; one that is gone already is fine."""
        try:
            with azure_call(SERVICE, expected=(IdentityGone,)), _noticing_gone():
                self._client.delete_user(CommunicationUserIdentifier(acs_user_id))
        except IdentityGone:
            return

    def exchange_teams_token(self, entra_token: str, client_id: str, object_id: str) -> AccessToken:
        """Exchange a Teams user's Entra ID token, issued to `client_id`, for one that lasts as long.

        Raises InvalidTeamsToken where the service does not take it.
        """
        with azure_call(SERVICE, expected=(InvalidTeamsToken,)), _noticing_refusal():
            token = self._client.get_token_for_teams_user(entra_token, client_id, object_id)
            return _access_token(token)

    def check(self) -> None:
        """Raises UpstreamUnavailable unless the service answers; any HTTP answer will do."""
        try:
            with upstream.call(SERVICE):
                self._session.head(self._endpoint, allow_redirects=False)
        except (requests.RequestException, upstream.NotSent) as error:
            raise UpstreamUnavailable(SERVICE, "not reachable") from error


@contextmanager
def _noticing_gone() -> Iterator[None]:
    # What a deleted identity answers is not documented; one of another resource is 401 IdentityNotOwned.
    try:
        yield
    except ResourceNotFoundError as error:
        raise IdentityGone from error
    except ClientAuthenticationError as error:
        if error_code(error) == "IdentityNotOwned":
            raise IdentityGone from error
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
