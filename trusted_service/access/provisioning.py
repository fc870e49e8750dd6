"""One ACS identity for each user, for life: created for the first token, and hardly ever replaced.

Communication Services cannot be asked which identities exist, so the row in Table Storage decides. An
identity is created first, then claimed by inserting the row; the loser of that race deletes what it created.
An identity that a row names is replaced only if Communication Services has said for some time that it does
not exist, or if an operator has moved the users to another resource.
"""

import math
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from trusted_service import errors
from trusted_service.access.erasure import Erasure
from trusted_service.access.identity_switch import IdentitySwitch, read_after
from trusted_service.access.new_identities import NewIdentities
from trusted_service.access.replacement_brake import ReplacementBrake
from trusted_service.access.resource_pin import ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.azure import shares
from trusted_service.azure.communication import Communication
from trusted_service.models import Change, Identity, IssuedToken, TokenRequest, find_resource
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import RowChanged, RowExists

log = structlog.get_logger(__name__)

ATTEMPTS = 4
NEW_ROW_AGE = timedelta(minutes=5)
"""Maximum age of a row that may have been inserted during this request, given that clocks differ."""
MISSING_REPORT_LIFE = timedelta(minutes=10)
"""How long after the grace period the first report still counts; a later one starts a new incident."""


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Issues tokens for a user's own identity. Methods raise UpstreamError when an upstream fails."""

    identities: IdentityTable
    sessions: SessionTable
    communication: Communication
    new_identities: NewIdentities
    identity_switch: IdentitySwitch
    index: UserIndex
    pin: ResourcePin
    erasure: Erasure
    grace: timedelta
    brake: ReplacementBrake = field(default_factory=ReplacementBrake)

    def issue_cached(self, request: TokenRequest, acs_user_id: str) -> IssuedToken:
        """Issue a token for the identity that the session has cached. Raises Blocked or NotSignedIn."""
        missing = None
        if self.pin.standing(acs_user_id) == "own":
            try:
                token = self.communication.issue_token(acs_user_id, request.scopes, request.minutes)
                return IssuedToken(token, acs_user_id, request.scopes)
            except errors.IdentityNotFound:
                missing = acs_user_id
            except errors.IdentityNotOwned:
                pass
        return self._issue_for_row(request, self.identities.find(request.user.id), missing)

    def issue(self, request: TokenRequest, identity: Identity | None) -> IssuedToken:
        """Issue a token for a user whose row was just read; None means that there is no row yet."""
        if identity is not None and identity.deleting:
            _refuse_blocked(identity)
            try:
                # A deletion was interrupted by a crash, and the user is back.
                with shares.for_user():
                    self.erasure.delete_identities(identity)
                self.erasure.forget(identity)
            except RowChanged as error:
                raise errors.NotSignedIn from error
            identity = None
        if identity is None:
            return self._issue_first(request)
        if datetime.now(UTC) - identity.created_at < NEW_ROW_AGE and not self._is_signed_in(request):
            # The user was deleted before this row was inserted: see `_undo_if_deleted`.
            raise errors.NotSignedIn
        return self._issue_for_row(request, identity)

    def _issue_for_row(
        self, request: TokenRequest, identity: Identity | None, missing: str | None = None
    ) -> IssuedToken:
        """`missing` is an identity that Communication Services has just reported as missing."""
        for _ in range(ATTEMPTS):
            if identity is None or identity.deleting:
                raise errors.NotSignedIn  # just deleted: this request must not bring the user back
            _refuse_blocked(identity)
            try:
                if missing is not None and identity.acs_user_id == missing:
                    return self._replace_missing(request, identity)
                return self._issue_or_replace(request, identity)
            except RowChanged:
                identity = self.identities.find(request.user.id)
        raise errors.UpstreamUnavailable("Table Storage", "the mapping changed too often")

    def _issue_or_replace(self, request: TokenRequest, identity: Identity) -> IssuedToken:
        """Raises RowChanged if the row is not as it was read."""
        acs_user_id = identity.acs_user_id
        if acs_user_id is None:
            return self._switch_to_new(request, identity, "created")
        standing = self.pin.standing(acs_user_id)
        if standing != "own":
            standing = self.pin.standing(acs_user_id, fresh=True)
        if standing == "own":
            try:
                token = self.communication.issue_token(acs_user_id, request.scopes, request.minutes)
            except errors.IdentityNotFound:
                return self._replace_missing(request, identity)
            except errors.IdentityNotOwned:
                standing = self.pin.standing(acs_user_id, fresh=True)
                if standing == "own":
                    log.error("wrong_resource", expected=find_resource(acs_user_id))
                    raise errors.WrongResource(find_resource(acs_user_id) or acs_user_id) from None
            else:
                # The evidence that it is missing must not outlive a success, or one more "does not exist"
                # would be enough to replace it. So no token is issued if the row cannot be written.
                if identity.held:
                    identity = self.identities.update(identity, switching=False, missing_since=None)
                return IssuedToken(token, acs_user_id, request.scopes, identity)
        if standing == "foreign":
            reason = f"{acs_user_id} belongs to another resource"
            raise errors.UpstreamUnavailable("Communication Services", reason)
        return self._switch_to_new(request, identity, "moved")

    def _replace_missing(self, request: TokenRequest, identity: Identity) -> IssuedToken:
        """Replace an identity that has been missing for the grace period; UpstreamUnavailable until then."""
        user_id, now, since = identity.user_id, datetime.now(UTC), identity.missing_since
        log.warning("identity_missing", user=str(user_id), acs_user_id=identity.acs_user_id, since=since)
        if self.grace:
            left = self.grace
            if since is None or not now - self.grace - MISSING_REPORT_LIFE < since <= now:
                # Clear the cache of every session, so that the next success of any of them reads the row.
                held = self.identities.update(identity, switching=True)
                self.sessions.forget_identity(user_id)
                self.identities.update(held, missing_since=now)
            else:
                left = since + self.grace - now
            if left > timedelta():
                seconds = str(math.ceil(left.total_seconds()))
                reason = "the identity does not exist"
                raise errors.IdentityMissing("Communication Services", reason, seconds)
        self.brake.take(identity.acs_user_id or "")
        return self._switch_to_new(request, identity, "replaced")

    def _switch_to_new(self, request: TokenRequest, identity: Identity, change: Change) -> IssuedToken:
        """Make the row name a new identity. Raises RowChanged if it is not as it was read."""
        user_id, was = identity.user_id, identity.acs_user_id
        created, token = self.new_identities.create(user_id, request.scopes, request.minutes)
        try:
            row = self.identity_switch.switch(identity, created, "moved" if change == "moved" else "replaced")
        except BaseException as error:
            self.new_identities.discard_after(error, user_id, created)
            raise
        log.warning("identity_switched", change=change, user=str(user_id), was=was, acs_user_id=created)
        return IssuedToken(token, created, request.scopes, row, change)

    def _issue_first(self, request: TokenRequest) -> IssuedToken:
        user_id = request.user.id
        self.index.begin()
        created, token = self.new_identities.create(user_id, request.scopes, request.minutes)
        try:
            row = self._claim(request, created)
        except BaseException as error:
            self.new_identities.discard_after(error, user_id, created)
            raise
        if row.acs_user_id == created:
            self._undo_if_deleted(request, row, created)
            log.info("identity_created", user=str(user_id), acs_user_id=created)
            return IssuedToken(token, created, request.scopes, row, "created")
        self.new_identities.discard(user_id, created)
        if not self._is_signed_in(request):
            raise errors.NotSignedIn
        return self._issue_for_row(request, row)

    def _undo_if_deleted(self, request: TokenRequest, row: Identity, created: str) -> None:
        # A deletion between the first read and the insert found only sessions to delete.
        if self._is_signed_in(request):
            return
        with suppress(RowChanged):  # it has been used or blocked since, so it stays
            self.identities.remove(row)
            self.new_identities.discard(request.user.id, created)
        raise errors.NotSignedIn

    def _claim(self, request: TokenRequest, acs_user_id: str) -> Identity:
        """Insert the row and return it, or the row of an earlier request. Raises NotSignedIn."""
        user, now = request.user, datetime.now(UTC)
        row = Identity(
            user_id=user.id,
            name=user.name,
            username=user.username,
            acs_user_id=acs_user_id,
            created_at=now,
            last_token_at=now,
        )
        failure: errors.UpstreamError
        try:
            return self.identities.insert(row)
        except RowExists:
            reason = "a conflicting row is gone"
            failure = errors.UpstreamUnavailable("Table Storage", reason, outcome_unknown=True)
            existing = read_after(failure, self.identities, user.id)
            if existing is None and not self._is_signed_in(request):
                raise errors.NotSignedIn from None
        except errors.UpstreamError as error:
            if not error.outcome_unknown:
                raise
            failure, existing = error, read_after(error, self.identities, user.id)
        if existing is None:
            raise failure
        return existing

    def _is_signed_in(self, request: TokenRequest) -> bool:
        """Whether the session of the request, if it has one, has not been ended meanwhile."""
        return request.session_key is None or self.sessions.exists(request.session_key)


def _refuse_blocked(identity: Identity) -> None:
    if identity.blocked:
        raise errors.Blocked
