"""Creates ACS identities, and deletes those that no mapping row has named.

Only where the response to a create never arrives, or the process dies before the row is written, can an
identity remain that nothing refers to.
"""

import functools
from collections.abc import Sequence

import structlog

from trusted_service import upstream
from trusted_service.communication import Communication
from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.identity_history import IdentityHistory
from trusted_service.later import Later
from trusted_service.models import AccessToken, User
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable

log = structlog.get_logger(__name__)

DISCARD_WAITS = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each further try to delete an identity that no row names."""


class NewIdentities:
    """Methods raise UpstreamError where an upstream fails."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        communication: Communication,
        history: IdentityHistory,
        pin: ResourcePin,
        later: Later,
    ) -> None:
        self._identities = identities
        self._communication = communication
        self._history = history
        self._pin = pin
        self._later = later

    def create(self, user: User, scopes: tuple[str, ...], minutes: int) -> tuple[str, AccessToken]:
        """Create an identity of the pinned resource, with a token.

        Raises WrongResource where it belongs to another resource: there it is deleted again.
        """
        try:
            created, token = self._communication.create_identity(scopes, minutes)
        except UpstreamUnavailable as error:
            if error.outcome_unknown:
                log.error("identity_may_be_orphaned", user=str(user.id), reason=error.reason)
            raise
        try:
            self._pin.admit(created)
        except BaseException:
            self.discard(user, created)
            raise
        return created, token

    def discard_after(self, failure: BaseException, user: User, created: str) -> None:
        """Delete an identity after its row could not be written, once it is certain that the row was not."""
        if isinstance(failure, UpstreamUnavailable) and failure.outcome_unknown:
            log.error("identity_unclaimed", user=str(user.id), acs_user_id=created, reason=failure.reason)
            self._discard_later(user, created, DISCARD_WAITS if failure.responded else DISCARD_WAITS[1:])
        else:
            self.discard(user, created)

    def discard(self, user: User, created: str, waits: Sequence[float] = DISCARD_WAITS) -> None:
        """Delete an identity that no row has named: now, else a few times later. Its id is in the log by
        then."""
        try:
            with upstream.extra_time():
                self._communication.delete_identity(created)
        except UpstreamError as error:
            event = "identity_discard_postponed" if waits else "identity_orphaned"
            log.error(event, user=str(user.id), acs_user_id=created, reason=error.reason)
            self._discard_later(user, created, waits)

    def _discard_later(self, user: User, created: str, waits: Sequence[float]) -> None:
        if waits:
            again = functools.partial(self._discard_if_unnamed, user, created, waits[1:])
            self._later.do_in(waits[0], again)

    def _discard_if_unnamed(self, user: User, created: str, waits: Sequence[float]) -> None:
        try:
            row = self._identities.find(user.id)
            named = row is not None and row.acs_user_id == created
            named = named or self._history.find(created) is not None  # a row has named it for a while
        except UpstreamError as error:
            event = "identity_discard_postponed" if waits else "identity_orphaned"
            log.error(event, user=str(user.id), acs_user_id=created, reason=error.reason)
            self._discard_later(user, created, waits)
            return
        if not named:
            self.discard(user, created, waits)
