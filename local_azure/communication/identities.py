"""The identities of one Communication Services resource."""

import threading
import time
import uuid
from dataclasses import dataclass, replace
from http import HTTPStatus

from local_azure.communication.errors import CommunicationError
from local_azure.documents import Members
from local_azure.encoding import format_ticks
from local_azure.store import Shelf

PREFIX = "8:acs:"


@dataclass(frozen=True)
class Identity:
    """An existing identity, the client's id of the request that created it, and its number of revocations.

    Each token carries that number. `iat` counts whole seconds, so it cannot distinguish a token issued before
    a revocation from one issued right after it.
    """

    id: str
    created_at: float
    request_id: str = ""
    revocations: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the identity as the control routes show it."""
        return {
            "id": self.id,
            "createdAt": format_ticks(self.created_at),
            "clientRequestId": self.request_id,
        }


class Identities:
    """The live identities by raw id, `8:acs:<resource>_<identity>`."""

    def __init__(self, shelf: Shelf, resource_id: str) -> None:
        """Load the identities from `shelf`."""
        self._shelf = shelf
        self._lock = threading.Lock()
        self.resource_id = resource_id
        self._identities: dict[str, Identity] = {}
        for key, document in shelf.read_all().items():
            members = Members(document)
            self._identities[key] = Identity(
                key,
                members.number("createdAt", 0.0),
                members.optional_text("requestId") or "",
                members.integer("revocations", 0),
            )

    def list(self) -> list[Identity]:
        """Return the live identities, oldest first."""
        with self._lock:
            return sorted(self._identities.values(), key=lambda identity: identity.created_at)

    def create(self, request_id: str = "") -> Identity:
        """Create an identity."""
        identity = Identity(f"{PREFIX}{self.resource_id}_{uuid.uuid4()}", time.time(), request_id)
        with self._lock:
            self._put(identity)
        return identity

    def find(self, raw_id: str) -> Identity | None:
        """Return a live identity, or None."""
        return self._identities.get(raw_id)

    def get(self, raw_id: str) -> Identity:
        """Return a live identity.

        Raises CommunicationError: 401 `IdentityNotOwned` if the id belongs to another resource, 404
        `IdentityNotFound` if it never existed or was deleted (the live service's code is not documented).
        """
        identity = self.find(raw_id)
        if identity is not None:
            return identity
        if not raw_id.startswith(f"{PREFIX}{self.resource_id}_"):
            raise CommunicationError(
                HTTPStatus.UNAUTHORIZED,
                "IdentityNotOwned",
                "Provided identity doesn't belong to the resource.",
            )
        raise CommunicationError(
            HTTPStatus.NOT_FOUND, "IdentityNotFound", "Provided identity was not found in the resource."
        )

    def revoke(self, raw_id: str) -> None:
        """Revoke every token issued so far; raises as `get` does."""
        with self._lock:
            identity = self.get(raw_id)
            self._put(replace(identity, revocations=identity.revocations + 1))

    def delete(self, raw_id: str) -> None:
        """Remove an identity, and with it all its tokens; raises as `get` does."""
        with self._lock:
            self.get(raw_id)
            del self._identities[raw_id]
            self._shelf.remove(raw_id)

    def _put(self, identity: Identity) -> None:
        self._identities[identity.id] = identity
        self._shelf.write(
            identity.id,
            {
                "createdAt": identity.created_at,
                "requestId": identity.request_id,
                "revocations": identity.revocations,
            },
        )
