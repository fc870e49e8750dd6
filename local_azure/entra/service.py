"""Wires the parts of the local Entra ID."""

import secrets
from dataclasses import dataclass, field

from flask import current_app

from local_azure.entra.accounts import TENANTS, Account, Directory
from local_azure.entra.assertions import Assertions
from local_azure.entra.browsers import Browsers
from local_azure.entra.errors import EntraError
from local_azure.entra.grants import OneTimeGrants
from local_azure.entra.registration import Registrations
from local_azure.entra.tampering import Forge
from local_azure.entra.tokens import Tokens
from local_azure.signing import KeyRing
from local_azure.store import Store

IDENTITY_TOKEN_SECONDS = 86400
TENANT_INDEPENDENT = ("organizations", "common")


@dataclass(kw_only=True)
class EntraId:
    """Everything the views share."""

    tls_origin: str
    page_origin: str
    keys: KeyRing
    directory: Directory
    registrations: Registrations
    forge: Forge
    tokens: Tokens
    assertions: Assertions
    browsers: Browsers = field(default_factory=Browsers)
    codes: OneTimeGrants = field(default_factory=OneTimeGrants)
    refresh_tokens: OneTimeGrants = field(default_factory=OneTimeGrants)
    identity_header: str = field(default_factory=lambda: secrets.token_hex(16))
    identity_token_seconds: int = IDENTITY_TOKEN_SECONDS

    @classmethod
    def load(cls, store: Store, *, tls_origin: str, page_origin: str) -> "EntraId":
        """Load the parts from `store`; clients call `tls_origin`, browsers `page_origin`."""
        keys = KeyRing(store.shelf("entra-keys"), "accounts.accesscontrol.example")
        forge = Forge(keys, tls_origin)
        certificates = KeyRing(store.shelf("client-certificates"), "trusted-service")
        registrations = Registrations(store.shelf("registrations"), certificates)
        return cls(
            tls_origin=tls_origin,
            page_origin=page_origin,
            keys=keys,
            directory=Directory(store.shelf("accounts")),
            registrations=registrations,
            forge=forge,
            tokens=Tokens(keys, forge, tls_origin),
            assertions=Assertions(registrations, keys, tls_origin),
        )

    def check_tenant(self, tenant: str) -> str:
        """Return the tenant segment of a URL in lower case. Raises EntraError AADSTS90002 if unknown."""
        tenant = tenant.lower()
        if tenant in TENANTS or tenant in TENANT_INDEPENDENT:
            return tenant
        raise EntraError("invalid_tenant", 90002, f"Tenant '{tenant}' not found.")

    def get_account(self, username: str, tenant: str) -> Account:
        """Return an account that may use the endpoints of `tenant`.

        Raises EntraError: AADSTS50034 unknown, AADSTS50057 disabled, AADSTS50020 of another tenant.
        """
        account = self.directory.find(username)
        if account is None:
            raise EntraError("invalid_grant", 50034, f"The user account {username} does not exist.")
        if not account.enabled:
            raise EntraError("invalid_grant", 50057, "The user account is disabled.")
        if tenant not in TENANT_INDEPENDENT and tenant != account.tenant_id:
            raise EntraError(
                "invalid_grant",
                50020,
                f"User account '{username}' from identity provider '{account.tenant_id}' does not exist in"
                f" tenant '{TENANTS[tenant]}' and cannot access the application in that tenant.",
            )
        return account


def get_entra() -> EntraId:
    """Return the Entra ID that the running app serves."""
    entra: EntraId = current_app.extensions["entra"]
    return entra
