"""Lets a mapping row name another identity, for every session at once."""

from trusted_service import upstream
from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.identity_history import IdentityHistory
from trusted_service.models import Identity, Reason, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable


class IdentitySwitch:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, identities: IdentityTable, sessions: SessionTable, history: IdentityHistory) -> None:
        self._identities = identities
        self._sessions = sessions
        self._history = history

    def point(self, identity: Identity, acs_user_id: str, reason: Reason) -> Identity:
        """Let the row name this identity, and return the row.

        First the row is held, so that no session caches the identity that it names, and every session forgets
        it. A crash in between leaves a held row that names the former identity; the next token releases it.
        Raises RowChanged where the row is not as it was read, and UpstreamUnavailable with an unknown outcome
        where it may name the new identity, now or in a moment.
        """
        # A row that another request holds is not written again: that would take the row from that request.
        held = identity if identity.switching else self._identities.hold(identity)
        self._sessions.forget_identity(identity.user_id)
        self._history.end(held, reason)
        try:
            return self._identities.replace_acs_user_id(held, acs_user_id)
        except UpstreamUnavailable as error:
            if not error.outcome_unknown:
                raise
            row = read_after(error, self._identities, identity.user_id)
            if row is None or row.acs_user_id != acs_user_id:
                raise
            return row


def read_after(failure: UpstreamError, identities: IdentityTable, user_id: UserId) -> Identity | None:
    """The row after a write whose outcome is unknown; raises `failure` where that cannot be told."""
    try:
        with upstream.extra_time():
            return identities.find(user_id)
    except UpstreamError:
        raise failure from None
