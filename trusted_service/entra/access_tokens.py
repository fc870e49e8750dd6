"""Bearer tokens: Entra ID access tokens that a single-page, mobile or server app presents to our API.

https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trusted_service.entra import claims
from trusted_service.entra.known_tokens import KnownTokens
from trusted_service.entra.metadata import Metadata
from trusted_service.errors import ClientNotAllowed, InvalidToken
from trusted_service.models import User


@dataclass(frozen=True, kw_only=True, slots=True)
class Bearer:
    """What a genuine access token says: on whose behalf it was issued, and for what.

    `application` is true for an app-only token: `user` is then the app's service principal.
    """

    user: User
    scopes: tuple[str, ...]
    application: bool


class AccessTokens:
    """Safe to share between threads."""

    def __init__(
        self,
        *,
        client_id: str,
        allowed_tenants: Sequence[str],
        allowed_clients: Sequence[str],
        metadata: Metadata,
    ) -> None:
        self._client_id = client_id
        self._allowed_tenants = allowed_tenants
        self._allowed_clients = allowed_clients
        self._metadata = metadata
        self._known = KnownTokens(metadata)

    def read(self, token: str) -> Bearer:
        """Check the token and return what it says.

        Raises InvalidToken, ClientNotAllowed, and UpstreamError where Entra ID's keys were never had.
        """
        try:
            verified = self._known.find(token) or self._verify(token)
            user = claims.user_of(verified)
        except claims.TokenInvalid as error:
            raise InvalidToken(error.reason) from error
        if user.id.tenant_id not in self._allowed_tenants:
            raise InvalidToken("tenant")
        # An ID token of a registration that is web app and API at once has our audience too. It says
        # for whom it was made (nonce), and never which client got it (azp).
        application = verified.get("idtyp") == "app" or verified.get("sub") == verified.get("oid")
        if "nonce" in verified or not ("scp" in verified or "azp" in verified or application):
            raise InvalidToken("id-token")
        if self._allowed_clients and verified.get("azp") not in self._allowed_clients:
            raise ClientNotAllowed
        scopes = verified.get("scp")
        return Bearer(
            user=user,
            scopes=tuple(scopes.split()) if isinstance(scopes, str) else (),
            application=application and "scp" not in verified,
        )

    def _verify(self, token: str) -> claims.Claims:
        before = self._metadata.kept_keys()
        verified = claims.verify(
            token,
            audience=self._client_id,
            endpoints=self._metadata.endpoints(),
            find_key=self._metadata.find_key_sparingly,
        )
        if before is not None:
            self._known.add(token, verified, before)
        return verified
