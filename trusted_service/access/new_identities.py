"""Creates ACS identities, and deletes those that no mapping row has named."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from trusted_service.access.resource_pin import ResourcePin
from trusted_service.azure import deadlines, shares
from trusted_service.azure.communication import Communication
from trusted_service.background import BackgroundTasks
from trusted_service.errors import UpstreamError
from trusted_service.models import AccessToken, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger

log = structlog.get_logger(__name__)

RETRY_DELAYS = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each retry to delete an identity that no row names."""


@dataclass(frozen=True, slots=True)
class NewIdentities:
    identities: IdentityTable
    ledger: Ledger
    communication: Communication
    pin: ResourcePin
    background: BackgroundTasks

    def create(self, user_id: UserId, scopes: tuple[str, ...], minutes: int) -> tuple[str, AccessToken]:
        """Create an identity and its first token. Raises WrongResource if it is not the pinned resource's."""
        try:
            created, token = self.communication.create_identity(scopes, minutes)
        except UpstreamError as error:
            if error.outcome_unknown:
                log.error("identity_may_be_orphaned", user=str(user_id), reason=error.reason)
            raise
        try:
            self.pin.admit(created)
        except BaseException:
            self.discard(user_id, created)
            raise
        return created, token

    def discard_after(self, failure: BaseException, user_id: UserId, created: str) -> None:
        """Delete an identity whose row could not be written, once it is certain that the row was not."""
        if isinstance(failure, UpstreamError) and failure.outcome_unknown:
            log.error("identity_unclaimed", user=str(user_id), acs_user_id=created, reason=failure.reason)
            # Without a response the row may still be written, so this must not run early.
            delays = RETRY_DELAYS if failure.responded else RETRY_DELAYS[1:]
            self._discard_later(user_id, created, delays, early=failure.responded)
        else:
            self.discard(user_id, created)

    def discard(self, user_id: UserId, created: str) -> None:
        """Delete an identity that no row has named: now, else later."""
        try:
            with deadlines.extra_time(), shares.for_user():
                self.communication.delete_identity(created)
        except UpstreamError as error:
            _log_failure(user_id, created, error.reason, len(RETRY_DELAYS))
            self._discard_later(user_id, created, RETRY_DELAYS, early=True)

    def _discard_later(self, user_id: UserId, created: str, delays: Sequence[float], *, early: bool) -> None:
        def discard() -> None:
            row = self.identities.find(user_id)
            # The ledger has it if a row has named it for a while.
            if not (row and row.acs_user_id == created) and self.ledger.find(created) is None:
                with shares.for_user():
                    self.communication.delete_identity(created)

        failed = partial(_log_failure, user_id, created)
        self.background.run_after(delays[0], discard, retries=delays[1:], failed=failed, early=early)


def _log_failure(user_id: UserId, created: str, reason: str, retries_left: int) -> None:
    event = "identity_discard_postponed" if retries_left else "identity_orphaned"
    log.error(event, user=str(user_id), acs_user_id=created, reason=reason)
