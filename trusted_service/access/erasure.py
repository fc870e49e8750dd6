"""Erases a user: the row is marked first and deleted last, so any request that reads it can finish."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from trusted_service.access.resource_pin import ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure.communication import Communication
from trusted_service.errors import IdentityNotOwned
from trusted_service.models import Identity, LedgerEntry
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.tables import RowChanged

log = structlog.get_logger(__name__)

TOKEN_LIFE = timedelta(hours=24, minutes=5)
"""How long after an identity's last use one of its tokens may still be valid; clocks differ a little."""


@dataclass(frozen=True, slots=True)
class Erasure:
    identities: IdentityTable
    ledger: Ledger
    communication: Communication
    index: UserIndex
    pin: ResourcePin
    audit: AuditTrail

    def delete_identities(self, identity: Identity) -> list[str]:
        """Delete the user's identities; return those with tokens that belong to a former resource."""
        kept = [entry for entry in self.ledger.all_of(identity) if not self._delete(entry.acs_user_id)]
        for entry in kept:
            log.warning("identity_left", user=str(identity.user_id), acs_user_id=entry.acs_user_id)
        return [entry.acs_user_id for entry in kept if may_have_tokens(identity, entry)]

    def forget(self, identity: Identity) -> None:
        """Erase what is stored about a marked row, then the row; a block stays. Raises RowChanged."""
        self.audit.erase_details(identity.user_id, identity.block_reason if identity.blocked else "")
        self.ledger.erase(identity)
        self.index.forget(identity)
        try:
            if identity.blocked:
                self.identities.clear(identity)
            else:
                self.identities.remove(identity)
        except RowChanged:
            # The user may have signed up again, and their new row has just lost its index rows.
            self.index.update(identity.user_id, force=True)
            raise
        if identity.blocked:
            self.index.update(identity.user_id)

    def _delete(self, acs_user_id: str) -> bool:
        """Delete it; False if it belongs to a resource that users were moved away from."""
        if self.pin.standing(acs_user_id) != "moved":
            try:
                self.communication.delete_identity(acs_user_id)
                return True
            except IdentityNotOwned:
                if self.pin.standing(acs_user_id, fresh=True) != "moved":
                    raise
        return False


def may_have_tokens(identity: Identity, entry: LedgerEntry) -> bool:
    """Whether a token of this identity of the user, current or former, may still be valid."""
    last_used = identity.last_token_at if entry.acs_user_id == identity.acs_user_id else entry.ended_at
    return last_used is not None and datetime.now(UTC) - last_used < TOKEN_LIFE
