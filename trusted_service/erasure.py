"""Deletes what is stored of a user, in an order that a crash can interrupt anywhere.

The mapping row is marked first and deleted last. Any request that reads a marked row can finish the deletion.
"""

import structlog

from trusted_service.communication import Communication
from trusted_service.errors import IdentityNotOwned
from trusted_service.identity_history import IdentityHistory, may_have_tokens
from trusted_service.models import Identity, LedgerEntry
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import RowChanged
from trusted_service.user_index import UserIndex

log = structlog.get_logger(__name__)


class Erasure:
    """Methods raise UpstreamError where an upstream fails, and may then be called again."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        communication: Communication,
        history: IdentityHistory,
        index: UserIndex,
        pin: ResourcePin,
    ) -> None:
        self._identities = identities
        self._communication = communication
        self._history = history
        self._index = index
        self._pin = pin

    def delete_identities(self, identity: Identity) -> list[str]:
        """Delete the user's identities, current and former.

        Return those whose tokens may still be good and which nobody here can delete: they belong to a
        resource that users were moved away from.
        """
        return [
            entry.acs_user_id
            for entry in self._history.all_of(identity)
            if not self._delete_identity(identity, entry) and may_have_tokens(identity, entry)
        ]

    def forget(self, identity: Identity) -> None:
        """Delete what leads to the identities of a marked row, then the row; only a block stays.

        Raises RowChanged where the row is not as it was read.
        """
        self._history.erase(identity)
        self._index.forget(identity)
        try:
            if identity.blocked:
                self._identities.clear(identity)
            else:
                self._identities.remove(identity)
        except RowChanged:
            # The user may be back already, and their new row has just lost its index rows.
            self._index.update(identity.user_id, force=True)
            raise
        if identity.blocked:
            self._index.update(identity.user_id)

    def _delete_identity(self, identity: Identity, entry: LedgerEntry) -> bool:
        """Delete it; False where it belongs to a resource that users were moved away from."""
        standing = self._pin.standing(entry.acs_user_id)
        if standing != "moved":
            try:
                self._communication.delete_identity(entry.acs_user_id)
            except IdentityNotOwned:
                standing = self._pin.standing(entry.acs_user_id, fresh=True)
                if standing != "moved":
                    raise
        if standing == "moved":
            log.warning("identity_left", user=str(identity.user_id), acs_user_id=entry.acs_user_id)
        return standing != "moved"
