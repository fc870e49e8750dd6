"""Tenants and the accounts that can sign in."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from local_azure.documents import Members
from local_azure.store import Shelf

CONTOSO = "5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001"
FABRIKAM = "8e4d2c6b-1f95-4b7a-8c3d-0c0ffee0c002"
TENANTS: Mapping[str, str] = {CONTOSO: "Contoso", FABRIKAM: "Fabrikam"}
ADMIN_ROLE = "TrustedService.Admin"


def name_issuer(tls_origin: str, tenant: str) -> str:
    """Return the issuer of the tokens of a tenant."""
    return f"{tls_origin}/{tenant}/v2.0"


def name_version_1_issuer(tenant: str) -> str:
    """Return the issuer of version 1.0 tokens, which resources of Azure itself accept."""
    return f"https://sts.windows.net/{tenant}/"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user in a tenant; `tenant_id` and `object_id` together are the key."""

    username: str
    name: str
    tenant_id: str
    object_id: str
    roles: tuple[str, ...] = ()
    enabled: bool = True

    @classmethod
    def from_json(cls, username: str, document: Mapping[str, object]) -> "Account":
        """Read an account, with a random object id by default. Raises ValueError if it is malformed."""
        members = Members(document)
        tenant_id = members.text("tenantId", CONTOSO)
        if tenant_id not in TENANTS:
            raise ValueError("tenantId must be one of the local tenants")
        return cls(
            username=username,
            name=members.text("name", username.partition("@")[0].title()),
            tenant_id=tenant_id,
            object_id=str(uuid.UUID(members.text("objectId", str(uuid.uuid4())))),
            roles=members.texts("roles"),
            enabled=members.flag("enabled", True),
        )

    def to_json(self) -> dict[str, object]:
        """Return the account as the control routes show it."""
        values = asdict(self)
        return {
            "username": values["username"],
            "name": values["name"],
            "tenantId": values["tenant_id"],
            "objectId": values["object_id"],
            "roles": list(self.roles),
            "enabled": values["enabled"],
        }


FIRST_ACCOUNTS = (
    Account(
        username="alice@contoso.example",
        name="Alice Example",
        tenant_id=CONTOSO,
        object_id="a11ce000-4b1d-4c7e-8f00-000000000001",
    ),
    Account(
        username="bob@contoso.example",
        name="Bob Example",
        tenant_id=CONTOSO,
        object_id="b0b00000-4b1d-4c7e-8f00-000000000002",
    ),
    Account(
        username="admin@contoso.example",
        name="Adele Admin",
        tenant_id=CONTOSO,
        object_id="ad314000-4b1d-4c7e-8f00-000000000003",
        roles=(ADMIN_ROLE,),
    ),
    Account(
        username="guest@fabrikam.example",
        name="Gus Guest",
        tenant_id=FABRIKAM,
        object_id="90e57000-4b1d-4c7e-8f00-000000000004",
    ),
)


class Directory:
    """The accounts of all tenants by user name."""

    def __init__(self, shelf: Shelf) -> None:
        """Load the accounts from `shelf`, or the initial accounts if it is empty."""
        self._shelf = shelf
        kept, first = shelf.read_all(), [account.username for account in FIRST_ACCOUNTS]
        names = [name for name in first if name in kept] + [name for name in kept if name not in first]
        self._accounts = {name: Account.from_json(name, kept[name]) for name in names}
        if not kept:
            for account in FIRST_ACCOUNTS:
                self.put(account)

    def list(self) -> tuple[Account, ...]:
        """Return all accounts, the initial ones first."""
        return tuple(self._accounts.values())

    def find(self, username: str) -> Account | None:
        """Return the account with this user name, ignoring case, or None."""
        return self._accounts.get(username.lower())

    def put(self, account: Account) -> None:
        """Add an account, or replace the one with the same user name."""
        self._accounts[account.username.lower()] = account
        self._shelf.write(account.username.lower(), account.to_json())

    def remove(self, username: str) -> None:
        """Remove an account if it exists."""
        self._accounts.pop(username.lower(), None)
        self._shelf.remove(username.lower())
