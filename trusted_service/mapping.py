"""One ACS identity for each user, for life: created at the first token, healed when ACS lost it.

Communication Services cannot be asked which identities exist, so the row in Table Storage decides.
An identity is created first and then claimed by inserting the row; whoever loses that race deletes
what they created. Only where the answer to a create never arrives, or the process dies before the
row is written, can an identity remain that nobody refers to.
"""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from trusted_service import upstream
from trusted_service.communication import Communication
from trusted_service.errors import Blocked, IdentityGone, NotSignedIn, UpstreamError, UpstreamUnavailable
from trusted_service.later import Later
from trusted_service.models import AccessToken, Identity, IssuedToken, User
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import RowChanged, RowExists

log = structlog.get_logger(__name__)

HEAL_ATTEMPTS = 3
DISCARD_WAITS = (1.0, 5.0, 30.0, 120.0)
"""Seconds before each further try to delete an identity that nobody refers to."""


class Mapping:
    """Issues tokens for a user's own identity. Methods raise UpstreamError where an upstream fails."""

    def __init__(self, identities: IdentityTable, communication: Communication, later: Later) -> None:
        self._identities = identities
        self._communication = communication
        self._later = later

    def issue(
        self, user: User, acs_user_id: str | None, scopes: tuple[str, ...], minutes: int
    ) -> IssuedToken:
        """Issue a token for the identity that the user had a moment ago.

        Raises Blocked, and NotSignedIn where the user was deleted while this was under way.
        """
        token = None if acs_user_id is None else self._try_issue(user, acs_user_id, scopes, minutes)
        return token or self._heal(user, acs_user_id, scopes, minutes)

    def issue_mapped(
        self,
        user: User,
        identity: Identity | None,
        scopes: tuple[str, ...],
        minutes: int,
        *,
        still_signed_in: Callable[[], bool],
    ) -> IssuedToken:
        """The same for a user whose row was just read: without one, this is their first token."""
        if identity is not None:
            _refuse_blocked(identity)
            if not identity.deleting:
                return self.issue(user, identity.acs_user_id, scopes, minutes)
            self._finish_deletion(identity)
        return self._first(user, scopes, minutes, still_signed_in)

    def _try_issue(
        self, user: User, acs_user_id: str, scopes: tuple[str, ...], minutes: int
    ) -> IssuedToken | None:
        """Return a token, or None where ACS does not know the identity (any more)."""
        try:
            token = self._communication.issue_token(acs_user_id, scopes, minutes)
        except IdentityGone:
            log.warning("identity_gone", user=str(user.id), acs_user_id=acs_user_id)
            return None
        return IssuedToken(access_token=token, acs_user_id=acs_user_id, scopes=scopes)

    def _first(
        self, user: User, scopes: tuple[str, ...], minutes: int, still_signed_in: Callable[[], bool]
    ) -> IssuedToken:
        created, token = self._create(user, scopes, minutes)
        try:
            owner = self._claim(user, created)
        except BaseException:
            self._discard(user, created)
            raise
        if owner.acs_user_id == created:
            self._undo_if_deleted(user, owner, created, still_signed_in)
            log.info("identity_created", user=str(user.id), acs_user_id=created)
            return IssuedToken(
                access_token=token, acs_user_id=created, scopes=scopes, identity_event="identity-created"
            )
        self._discard(user, created)
        _refuse_blocked(owner)
        return self.issue(user, owner.acs_user_id, scopes, minutes)

    def _undo_if_deleted(
        self, user: User, row: Identity, created: str, still_signed_in: Callable[[], bool]
    ) -> None:
        # A deletion that ran between our first read and our insert found nothing to delete but sessions.
        if still_signed_in():
            return
        try:
            self._identities.remove(row)
        except RowChanged:
            pass  # somebody has used or blocked it since: then it is theirs
        else:
            self._discard(user, created)
        raise NotSignedIn

    def _finish_deletion(self, identity: Identity) -> None:
        # Whoever deleted the user died before the end; the user has come again since.
        if identity.acs_user_id is not None:
            self._communication.delete_identity(identity.acs_user_id)
        try:
            self._identities.remove(identity)
        except RowChanged as error:
            raise NotSignedIn from error

    def _claim(self, user: User, acs_user_id: str) -> Identity:
        """Insert the row and return it, or the row of whoever was first."""
        try:
            return self._identities.insert(user, acs_user_id, datetime.now(UTC))
        except RowExists:
            failure = UpstreamUnavailable("Table Storage", "the row that was in the way is gone")
        except UpstreamUnavailable as error:
            if not error.outcome_unknown:
                raise
            failure = error
        with upstream.extra_time():
            owner = self._identities.find(user.id)
        if owner is None:
            raise failure
        return owner

    def _heal(self, user: User, gone: str | None, scopes: tuple[str, ...], minutes: int) -> IssuedToken:
        """Replace an identity that ACS no longer knows, only while the row still names it."""
        for _ in range(HEAL_ATTEMPTS):
            identity = self._identities.find(user.id)
            if identity is None or identity.deleting:
                raise NotSignedIn  # deleted a moment ago: this request must not bring the user back
            _refuse_blocked(identity)
            if identity.acs_user_id not in (None, gone):
                token = self._try_issue(user, identity.acs_user_id, scopes, minutes)
            else:
                token = self._replace(user, identity, scopes, minutes)
            if token is not None:
                return token
            gone = identity.acs_user_id
        raise UpstreamUnavailable("Table Storage", "the mapping changed too often")

    def _replace(
        self, user: User, identity: Identity, scopes: tuple[str, ...], minutes: int
    ) -> IssuedToken | None:
        """Point the row at a new identity; None where somebody else changed the row first."""
        created, token = self._create(user, scopes, minutes)
        try:
            self._point(identity, created)
        except RowChanged:
            self._discard(user, created)
            return None
        except BaseException:
            self._discard(user, created)
            raise
        if identity.acs_user_id:
            self._discard(user, identity.acs_user_id)  # in case it was not gone after all
        log.warning("identity_healed", user=str(user.id), was=identity.acs_user_id, acs_user_id=created)
        return IssuedToken(
            access_token=token, acs_user_id=created, scopes=scopes, identity_event="identity-healed"
        )

    def _point(self, identity: Identity, acs_user_id: str) -> None:
        """Let the row name another identity, as it may do although its write was not answered."""
        try:
            self._identities.replace_acs_user_id(identity, acs_user_id)
        except UpstreamUnavailable as error:
            if not error.outcome_unknown:
                raise
            with upstream.extra_time():
                row = self._identities.find(identity.user_id)
            if row is None or row.acs_user_id != acs_user_id:
                raise

    def _create(self, user: User, scopes: tuple[str, ...], minutes: int) -> tuple[str, AccessToken]:
        try:
            return self._communication.create_identity(scopes, minutes)
        except UpstreamUnavailable as error:
            if error.outcome_unknown:
                log.error("identity_may_be_orphaned", user=str(user.id), reason=error.reason)
            raise

    def _discard(self, user: User, acs_user_id: str, waits: Sequence[float] = DISCARD_WAITS) -> None:
        """Delete an identity that no row names: now, else a few times later. Its id is in the log by then."""
        try:
            with upstream.extra_time():
                self._communication.delete_identity(acs_user_id)
        except UpstreamError as error:
            event = "identity_discard_postponed" if waits else "identity_orphaned"
            log.error(event, user=str(user.id), acs_user_id=acs_user_id, reason=error.reason)
            if waits:
                again = functools.partial(self._discard, user, acs_user_id, waits[1:])
                self._later.do_in(waits[0], again)


def _refuse_blocked(identity: Identity) -> None:
    if identity.blocked:
        raise Blocked
