"""Connections to Redis, with a password or as the managed identity, whose password is a token of Entra ID.

https://learn.microsoft.com/azure/redis/entra-for-authentication#microsoft-entra-client-workflow
"""

from contextlib import suppress
from typing import Any

from azure.core.credentials import TokenCredential
from redis import ConnectionPool, CredentialProvider, RedisError

from trusted_service.errors import ManagedIdentityFailed

SCOPE = "https://redis.azure.com/.default"


class NoToken(RedisError):
    """The managed identity gives no token; the message says why and holds no secret."""


class _Identity(CredentialProvider):
    """User and password of each connection that begins: an object id and a token."""

    def __init__(self, object_id: str, credential: TokenCredential) -> None:
        self._object_id, self._credential = object_id, credential

    def get_credentials(self) -> tuple[str, str]:
        """Raises NoToken."""
        try:
            return self._object_id, self._credential.get_token(SCOPE).token
        except ManagedIdentityFailed as error:
            raise NoToken(f"managed identity: {error}") from error


class Pool(ConnectionPool):
    """Connects as the managed identity, whose object id is the user, if it has its `credential`."""

    def __init__(self, *, credential: TokenCredential | None, **options: Any) -> None:
        self._identity, self._token = None, ""
        if credential is not None:
            self._identity = _Identity(options.pop("username"), credential)
            options["credential_provider"] = self._identity
        super().__init__(**({"socket_timeout": 1, "socket_connect_timeout": 1} | options))

    def renew(self) -> None:
        """Replace connections that began with an older token, which Redis will cut."""
        if self._identity is not None:
            with suppress(NoToken):  # it is logged, and connections that begin say so too
                _, token = self._identity.get_credentials()
                if token != self._token:
                    self._token = token
                    self.update_active_connections_for_reconnect()
                    self.disconnect(inuse_connections=False)
