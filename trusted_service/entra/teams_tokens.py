"""Entra ID tokens for Teams: what Communication Services exchanges for a token of a Teams user.

https://learn.microsoft.com/rest/api/communication/identity/communication-identity/exchange-teams-user-access-token
"""

from collections.abc import Sequence

from trusted_service.entra import claims
from trusted_service.entra.metadata import Endpoints, Metadata, SigningKey
from trusted_service.errors import ClientNotAllowed, InvalidTeamsToken, OtherUser
from trusted_service.models import UserId, parse_guid

RESOURCE = "https://auth.msft.communication.azure.com"
SCOPE_NAMES = ("Teams.ManageCalls", "Teams.ManageChats")
SCOPES = tuple(f"{RESOURCE}/{name}" for name in SCOPE_NAMES)
"""What a sign-in asks for to get such a token."""
AUDIENCES = (RESOURCE, f"{RESOURCE}/", "1fd5118e-2576-4263-8130-9503064c837a")
"""A v1.0 token names the resource by its address, a v2.0 token by its application id."""


class TeamsTokens:
    """Safe to share between threads."""

    def __init__(self, *, client_id: str, allowed_clients: Sequence[str], metadata: Metadata) -> None:
        self._clients = (client_id, *allowed_clients) if allowed_clients else ()
        self._metadata = metadata

    def find_client(self, token: str, user_id: UserId) -> str:
        """Check that the token is the user's own; return the id of the client that it was issued to.

        Raises InvalidTeamsToken, OtherUser, ClientNotAllowed, and UpstreamError where Entra ID's keys
        were never had.
        """
        try:
            verified, key = claims.decode(
                token, audiences=AUDIENCES, find_key=self._metadata.find_key_sparingly
            )
            claims.tenant_of(verified)
            if claims.user_of(verified).id != user_id:
                raise OtherUser
            _check_issuer(verified, key, self._metadata.endpoints())
            client_id = _client(verified)
        except claims.TokenInvalid as error:
            raise InvalidTeamsToken(error.reason) from error
        scopes = verified.get("scp")
        if not isinstance(scopes, str) or not set(SCOPE_NAMES) & set(scopes.split()):
            raise InvalidTeamsToken("scope")
        if self._clients and client_id not in self._clients:
            raise ClientNotAllowed
        return client_id


def _check_issuer(verified: claims.Claims, key: SigningKey, endpoints: Endpoints) -> None:
    """Which version a token has is up to its resource, and ours to take: today it is 1.0."""
    if verified.get("ver") != "1.0":
        claims.check_issuer(verified, key, endpoints)
        return
    tenant_id = claims.tenant_of(verified)
    if verified["iss"] != f"https://sts.windows.net/{tenant_id}/":
        raise claims.TokenInvalid("issuer")
    if key.issuer is not None and tenant_id not in key.issuer.replace("{tenantid}", tenant_id).split("/"):
        raise claims.TokenInvalid("key-issuer")


def _client(verified: claims.Claims) -> str:
    name = "appid" if verified.get("ver") == "1.0" else "azp"
    try:
        return parse_guid(verified.get(name))
    except ValueError as error:
        raise claims.TokenInvalid(name) from error
