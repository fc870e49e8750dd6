"""One ACS identity for each user, for life: created at the first token, and hardly ever replaced.

Communication Services cannot be asked which identities exist, so the row in Table Storage decides. An
identity is created first and then claimed by inserting the row; the loser of that race deletes what it
created. An identity that a row has named is replaced only where Communication Services itself has said for
some time that it does not exist, or where an operator has moved the users to another resource. It is never
deleted by that.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from trusted_service.communication import Communication
from trusted_service.erasure import Erasure
from trusted_service.errors import (
    Blocked,
    ForeignIdentity,
    IdentityMissing,
    IdentityNotFound,
    IdentityNotOwned,
    NotSignedIn,
    UpstreamUnavailable,
    WrongResource,
)
from trusted_service.identity_switch import IdentitySwitch, read_after
from trusted_service.models import Identity, IssuedToken, User, find_resource
from trusted_service.new_identities import NewIdentities
from trusted_service.replacement_brake import ReplacementBrake
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import RowChanged, RowExists
from trusted_service.user_index import UserIndex

log = structlog.get_logger(__name__)

ATTEMPTS = 4
NEW = timedelta(minutes=5)
"""How old a row may be that was inserted during this request, although clocks differ."""
EVIDENCE_LIFE = timedelta(minutes=10)
"""How long after the grace period the first "does not exist" counts; later it may be another incident."""


class Provisioning:
    """Issues tokens for a user's own identity. Methods raise UpstreamError where an upstream fails."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        sessions: SessionTable,
        communication: Communication,
        new_identities: NewIdentities,
        switch: IdentitySwitch,
        index: UserIndex,
        pin: ResourcePin,
        erasure: Erasure,
        grace_seconds: int,
    ) -> None:
        self._identities = identities
        self._sessions = sessions
        self._communication = communication
        self._new = new_identities
        self._switch = switch
        self._index = index
        self._pin = pin
        self._erasure = erasure
        self._grace = timedelta(seconds=grace_seconds)
        self._brake = ReplacementBrake()

    def issue_cached(
        self, user: User, acs_user_id: str, scopes: tuple[str, ...], minutes: int
    ) -> IssuedToken:
        """Issue a token for the identity that a session has cached.

        Raises Blocked, and NotSignedIn where the user was deleted while this was in progress.
        """
        missing = None
        if self._pin.standing(acs_user_id) == "own":
            try:
                token = self._communication.issue_token(acs_user_id, scopes, minutes)
            except IdentityNotFound:
                missing = acs_user_id
            except IdentityNotOwned:
                pass
            else:
                return IssuedToken(access_token=token, acs_user_id=acs_user_id, scopes=scopes)
        return self._issue_for_row(user, self._identities.find(user.id), scopes, minutes, missing)

    def issue(
        self,
        user: User,
        identity: Identity | None,
        scopes: tuple[str, ...],
        minutes: int,
        *,
        still_signed_in: Callable[[], bool],
    ) -> IssuedToken:
        """The same for a user whose row was just read; without a row, this is their first token."""
        if identity is not None and identity.deleting:
            _refuse_blocked(identity)
            try:
                # The process that deleted the user died before the end, and the user is back.
                self._erasure.delete_identities(identity)
                self._erasure.forget(identity)
            except RowChanged as error:
                raise NotSignedIn from error
            identity = None
        if identity is None:
            return self._issue_first(user, scopes, minutes, still_signed_in)
        if datetime.now(UTC) - identity.created_at < NEW and not still_signed_in():
            # The user was deleted before this row was inserted: see `_undo_if_deleted`.
            raise NotSignedIn
        return self._issue_for_row(user, identity, scopes, minutes)

    def _issue_for_row(
        self,
        user: User,
        identity: Identity | None,
        scopes: tuple[str, ...],
        minutes: int,
        missing: str | None = None,
    ) -> IssuedToken:
        """`missing` is an identity that Communication Services has just said does not exist."""
        for _ in range(ATTEMPTS):
            if identity is None or identity.deleting:
                raise NotSignedIn  # deleted a moment ago: this request must not bring the user back
            _refuse_blocked(identity)
            try:
                if missing is not None and identity.acs_user_id == missing:
                    return self._replace_missing(user, identity, scopes, minutes)
                return self._issue_or_replace(user, identity, scopes, minutes)
            except RowChanged:
                identity = self._identities.find(user.id)
        raise UpstreamUnavailable("Table Storage", "the mapping changed too often")

    def _issue_or_replace(
        self, user: User, identity: Identity, scopes: tuple[str, ...], minutes: int
    ) -> IssuedToken:
        """Raises RowChanged where the row is not as it was read."""
        acs_user_id = identity.acs_user_id
        if acs_user_id is None:
            return self._point_at_new(user, identity, scopes, minutes, "created")
        standing = self._pin.standing(acs_user_id)
        if standing != "own":
            standing = self._pin.standing(acs_user_id, fresh=True)
        if standing == "own":
            try:
                token = self._communication.issue_token(acs_user_id, scopes, minutes)
            except IdentityNotFound:
                return self._replace_missing(user, identity, scopes, minutes)
            except IdentityNotOwned:
                standing = self._pin.standing(acs_user_id, fresh=True)
                if standing == "own":
                    log.error("wrong_resource", expected=find_resource(acs_user_id))
                    raise WrongResource(find_resource(acs_user_id) or acs_user_id) from None
            else:
                # The evidence that it is missing must not outlive a success, or one more "does not exist"
                # would be enough to replace it. So there is no token where the row cannot be written.
                row = self._identities.release(identity) if identity.held else identity
                return IssuedToken(access_token=token, acs_user_id=acs_user_id, scopes=scopes, row=row)
        if standing == "foreign":
            raise ForeignIdentity(acs_user_id)
        return self._point_at_new(user, identity, scopes, minutes, "moved")

    def _replace_missing(
        self, user: User, identity: Identity, scopes: tuple[str, ...], minutes: int
    ) -> IssuedToken:
        """Replace an identity that has been missing for the grace period.

        Raises IdentityMissing until then.
        """
        now, since = datetime.now(UTC), identity.missing_since
        log.warning("identity_missing", user=str(user.id), acs_user_id=identity.acs_user_id, since=since)
        if self._grace:
            if since is None or not now - self._grace - EVIDENCE_LIFE < since <= now:
                # Every session forgets the identity, so that the next success of any of them reads the row.
                held = self._identities.hold(identity)
                self._sessions.forget_identity(user.id)
                self._identities.set_missing_since(held, now)
                raise IdentityMissing(self._grace.total_seconds())
            if now - since < self._grace:
                raise IdentityMissing((since + self._grace - now).total_seconds())
        self._brake.take(identity.acs_user_id or "")
        return self._point_at_new(user, identity, scopes, minutes, "replaced")

    def _point_at_new(
        self,
        user: User,
        identity: Identity,
        scopes: tuple[str, ...],
        minutes: int,
        change: Literal["created", "replaced", "moved"],
    ) -> IssuedToken:
        """Point the row at a new identity. Raises RowChanged where it is not as it was read."""
        created, token = self._new.create(user, scopes, minutes)
        former = identity.acs_user_id
        try:
            row = self._switch.point(identity, created, "moved" if change == "moved" else "replaced")
        except BaseException as error:
            self._new.discard_after(error, user, created)
            raise
        log.warning("identity_switched", change=change, user=str(user.id), was=former, acs_user_id=created)
        return IssuedToken(
            access_token=token,
            acs_user_id=created,
            scopes=scopes,
            row=row,
            change=change,
            former_acs_user_id=former,
        )

    def _issue_first(
        self, user: User, scopes: tuple[str, ...], minutes: int, still_signed_in: Callable[[], bool]
    ) -> IssuedToken:
        self._index.begin()
        created, token = self._new.create(user, scopes, minutes)
        try:
            owner = self._claim(user, created, still_signed_in)
        except BaseException as error:
            self._new.discard_after(error, user, created)
            raise
        if owner.acs_user_id == created:
            self._undo_if_deleted(user, owner, created, still_signed_in)
            log.info("identity_created", user=str(user.id), acs_user_id=created)
            return IssuedToken(
                access_token=token, acs_user_id=created, scopes=scopes, row=owner, change="created"
            )
        self._new.discard(user, created)
        if not still_signed_in():
            raise NotSignedIn
        return self._issue_for_row(user, owner, scopes, minutes)

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
            self._new.discard(user, created)
        raise NotSignedIn

    def _claim(self, user: User, acs_user_id: str, still_signed_in: Callable[[], bool]) -> Identity:
        """Insert the row and return it, or the row of another request that was first.

        Raises NotSignedIn where that one was deleted a moment ago, and the user's sessions with it.
        """
        conflict = False
        try:
            return self._identities.insert(user, acs_user_id, datetime.now(UTC))
        except RowExists:
            conflict = True
            failure = UpstreamUnavailable(
                "Table Storage", "the row that was in the way is gone", outcome_unknown=True
            )
        except UpstreamUnavailable as error:
            if not error.outcome_unknown:
                raise
            failure = error
        owner = read_after(failure, self._identities, user.id)
        if owner is None and conflict and not still_signed_in():
            raise NotSignedIn
        if owner is None:
            raise failure
        return owner


def _refuse_blocked(identity: Identity) -> None:
    if identity.blocked:
        raise Blocked
