"""Wires the parts of the local Communication Services.

There are two resources, each with its own endpoint, so that settings can name the wrong one. A control
route can also swap the resources of the endpoints, as a slot swap would.
"""

import base64
import secrets
import uuid
from dataclasses import dataclass, field

from flask import current_app

from local_azure.communication.identities import Identities
from local_azure.communication.limits import Limits
from local_azure.communication.signatures import Callers
from local_azure.communication.tokens import AccessTokens
from local_azure.documents import Members
from local_azure.entra.registration import IDENTITY_PRINCIPAL_ID
from local_azure.signing import KeyRing
from local_azure.store import Store


@dataclass(kw_only=True)
class CommunicationServices:
    """One resource: its callers, identities and tokens."""

    callers: Callers
    entra_keys: KeyRing
    identities: Identities
    tokens: AccessTokens
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def load(
        cls, store: Store, entra_keys: KeyRing, *, name: str = "", access_key: str | None = None
    ) -> "CommunicationServices":
        """Load the parts from `store`; `entra_keys` verify the tokens of Entra ID."""
        shelf = store.shelf(f"resource{name}")
        kept = shelf.find("resource")
        if kept is None:
            access_key = access_key or base64.b64encode(secrets.token_bytes(64)).decode("ascii")
            kept = {"id": str(uuid.uuid4()), "accessKey": access_key}
            shelf.write("resource", kept)
        members = Members(kept)
        identities = Identities(store.shelf(f"identities{name}"), members.text("id"))
        return cls(
            callers=Callers(members.text("accessKey"), entra_keys, IDENTITY_PRINCIPAL_ID),
            entra_keys=entra_keys,
            identities=identities,
            tokens=AccessTokens(KeyRing(store.shelf("acs-keys"), "communication.example"), identities),
        )


@dataclass(kw_only=True)
class Endpoint:
    """A URL and the resource that it currently serves."""

    origin: str
    resource: CommunicationServices

    @property
    def connection_string(self) -> str:
        """The connection string for the SDK; both resources have the same access key."""
        return f"endpoint={self.origin}/;accesskey={self.resource.callers.access_key}"

    def to_json(self) -> dict[str, object]:
        """Return the endpoint as the control routes show it."""
        return {
            "endpoint": self.origin,
            "connectionString": self.connection_string,
            "resourceId": self.resource.identities.resource_id,
        }


def get_communication() -> CommunicationServices:
    """Return the resource that the running app serves."""
    endpoint: Endpoint = current_app.extensions["communication"]
    return endpoint.resource
