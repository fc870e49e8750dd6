"""Switches a mapping row to another identity, in every session at once."""

from dataclasses import dataclass
from datetime import UTC, datetime

from trusted_service.azure import deadlines
from trusted_service.errors import UpstreamError
from trusted_service.models import Identity, Reason, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.sessions import SessionTable


@dataclass(frozen=True, slots=True)
class IdentitySwitch:
    identities: IdentityTable
    sessions: SessionTable
    ledger: Ledger

    def switch(self, identity: Identity, acs_user_id: str, reason: Reason) -> Identity:
        """Make the row, which is held first so that no session caches its identity, name this one; return it.

        Raises RowChanged, and UpstreamError with an unknown outcome if the row may name the new identity.
        """
        # Do not hold a row that another request holds, because that would make its write fail.
        held = identity if identity.switching else self.identities.update(identity, switching=True)
        self.sessions.forget_identity(identity.user_id)
        self.ledger.end(held, reason)
        released = {"switching": False, "missing_since": None, "indexed": False}
        now = datetime.now(UTC)
        try:
            return self.identities.update(held, acs_user_id=acs_user_id, switched_at=now, **released)
        except UpstreamError as error:
            if not error.outcome_unknown:
                raise
            row = read_after(error, self.identities, identity.user_id)
            if row is None or row.acs_user_id != acs_user_id:
                raise
            return row


def read_after(failure: UpstreamError, identities: IdentityTable, user_id: UserId) -> Identity | None:
    """The row after a write whose outcome is unknown. Raises `failure` if it cannot be read."""
    try:
        with deadlines.extra_time():
            return identities.find(user_id)
    except UpstreamError:
        raise failure from None
