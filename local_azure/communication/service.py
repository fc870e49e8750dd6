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
from local_azure.entra.accounts import CONTOSO, name_version_1_issuer
from local_azure.entra.registration import IDENTITY_PRINCIPAL_ID
from local_azure.signing import KeyRing
from local_azure.store import Shelf, Store

KEY_KINDS = ("primary", "secondary")


@dataclass(kw_only=True)
class CommunicationServices:
    """One resource: its callers, identities and tokens."""

    shelf: Shelf
    callers: Callers
    entra_keys: KeyRing
    identities: Identities
    tokens: AccessTokens
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def load(
        cls, store: Store, entra_keys: KeyRing, *, name: str = "", access_keys: tuple[str, ...] | None = None
    ) -> "CommunicationServices":
        """Load the parts from `store`; `entra_keys` verify the tokens of Entra ID."""
        shelf = store.shelf(f"resource{name}")
        kept = shelf.find("resource")
        if kept is None or "accessKeys" not in kept:
            keys = list(access_keys or (_new_key(), _new_key()))
            kept = {"id": str(uuid.uuid4())} | (kept or {}) | {"accessKeys": keys}
            shelf.write("resource", kept)
        members = Members(kept)
        identities = Identities(store.shelf(f"identities{name}"), members.text("id"))
        trusted = {"oid": IDENTITY_PRINCIPAL_ID, "iss": name_version_1_issuer(CONTOSO)}
        return cls(
            shelf=shelf,
            callers=Callers(members.texts("accessKeys"), entra_keys, trusted),
            entra_keys=entra_keys,
            identities=identities,
            tokens=AccessTokens(KeyRing(store.shelf("acs-keys"), "communication.example"), identities),
        )

    def regenerate_key(self, kind: str) -> None:
        """Replace the primary or the secondary access key; the former one stops working at once."""
        keys = dict(zip(KEY_KINDS, self.callers.access_keys, strict=True)) | {kind: _new_key()}
        self.callers.access_keys = tuple(keys.values())
        kept = {"id": self.identities.resource_id, "accessKeys": self.callers.access_keys}
        self.shelf.write("resource", kept)


@dataclass(kw_only=True)
class Endpoint:
    """A URL and the resource that it currently serves."""

    origin: str
    resource: CommunicationServices

    @property
    def connection_strings(self) -> list[str]:
        """The connection strings by both keys; the resources have the same ones at first."""
        return [f"endpoint={self.origin}/;accesskey={key}" for key in self.resource.callers.access_keys]

    def to_json(self) -> dict[str, object]:
        """Return the endpoint as the control routes show it."""
        return {
            "endpoint": self.origin,
            "connectionStrings": self.connection_strings,
            "resourceId": self.resource.identities.resource_id,
        }


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode("ascii")


def get_communication() -> CommunicationServices:
    """Return the resource that the running app serves."""
    endpoint: Endpoint = current_app.extensions["communication"]
    return endpoint.resource
