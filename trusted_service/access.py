"""The rules: who gets in, who gets a token, and for what.

It does not know how a caller was found out (cookie or bearer token), nor what HTTP is.
"""

from datetime import UTC, datetime, timedelta

import structlog

from trusted_service.audit import AuditTrail
from trusted_service.communication import Communication
from trusted_service.entra.sign_in import SignedIn
from trusted_service.entra.teams_tokens import TeamsTokens
from trusted_service.errors import Blocked, InvalidRequest, NotSignedIn, UpstreamError
from trusted_service.models import (
    SYSTEM,
    AccessToken,
    Caller,
    IssuedToken,
    Session,
    SessionOrigin,
    User,
    UserId,
)
from trusted_service.provisioning import Provisioning
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable
from trusted_service.usage import SIGN_IN, TOKEN, UsageCounter
from trusted_service.user_index import UserIndex

log = structlog.get_logger(__name__)

TOKEN_NOTED_EVERY = timedelta(minutes=5)
JUST_NOW = timedelta(seconds=2)
"""A new row that is not indexed after that was left so by a process that died, or by a failing storage."""
SHORTEST_TOKEN_MINUTES = 60


class AccessService:
    """What a person may do for themselves. Methods raise UpstreamError where an upstream fails."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        sessions: SessionTable,
        provisioning: Provisioning,
        communication: Communication,
        teams_tokens: TeamsTokens,
        index: UserIndex,
        audit: AuditTrail,
        usage: UsageCounter,
        token_scopes: tuple[str, ...],
        token_lifetime_minutes: int,
    ) -> None:
        self._identities = identities
        self._sessions = sessions
        self._provisioning = provisioning
        self._communication = communication
        self._teams_tokens = teams_tokens
        self._index = index
        self._audit = audit
        self._usage = usage
        self._token_scopes = token_scopes
        self._token_lifetime_minutes = token_lifetime_minutes

    def sign_in(self, signed_in: SignedIn, *, instead_of: Session | None, origin: SessionOrigin) -> str:
        """End the browser's old session, start a new one, return its id. Raises Blocked: then there is none.

        The session is there before the block is read: a block that comes later ends it, one that
        came earlier is seen.
        """
        if instead_of is not None:
            self._sessions.end(instead_of.key)
        user = signed_in.user
        session_id, session = self._sessions.create(
            user,
            entra_session_id=signed_in.session_id,
            login_hint=signed_in.login_hint,
            origin=origin,
        )
        try:
            identity = self._identities.find(user.id)
            if identity is not None and identity.blocked:
                raise Blocked
        except BaseException:
            self._sessions.end(session.key)
            raise
        self._usage.count(SIGN_IN)
        return session_id

    def note_sign_in(self, user: User) -> None:
        """Record what the user is called now, for searches too.

        Runs after the response, which it never fails.
        """
        try:
            identity = self._identities.find(user.id)
            if identity is not None and (identity.name, identity.username) != (user.name, user.username):
                self._identities.note_names(identity, user)
                identity = self._identities.find(user.id)
            if identity is not None:
                self._index.update(user.id, identity)
        except UpstreamError as error:
            log.warning("sign_in_not_noted", user=str(user.id), reason=str(error))

    def find_session(self, session_id: str) -> Session | None:
        return self._sessions.find(session_id)

    def sign_out(self, session: Session) -> None:
        self._sessions.end(session.key)

    def end_entra_session(self, entra_session_id: str) -> int:
        """End every session that this Entra ID session (`sid`) started; return how many."""
        return self._sessions.end_entra_session(entra_session_id)

    def admit_bearer(self, user: User) -> Caller:
        """The caller that a bearer token speaks for. Raises Blocked: a token outlives a block."""
        identity = self._identities.find(user.id)
        if identity is not None and identity.blocked:
            raise Blocked
        return Caller(user=user, identity=identity)

    def find_acs_user_id(self, caller: Caller) -> str | None:
        """The caller's ACS identity; None before their first token."""
        if caller.session is not None and caller.session.acs_user_id:
            return caller.session.acs_user_id
        identity = caller.identity if caller.session is None else self._identities.find(caller.user.id)
        return None if identity is None else identity.acs_user_id

    def issue_token(
        self, caller: Caller, scopes: tuple[str, ...] | None = None, minutes: int | None = None
    ) -> IssuedToken:
        """Issue a token for the caller's own identity; without `scopes` and `minutes`, all that is allowed.

        Raises InvalidRequest, Blocked, and NotSignedIn where the caller was deleted meanwhile.
        """
        scopes = self._token_scopes if scopes is None else scopes
        minutes = self._token_lifetime_minutes if minutes is None else minutes
        if not scopes or len(set(scopes)) < len(scopes) or set(scopes) - set(self._token_scopes):
            raise InvalidRequest(f"scopes must be chosen from {', '.join(self._token_scopes)}, each once.")
        if not SHORTEST_TOKEN_MINUTES <= minutes <= self._token_lifetime_minutes:
            raise InvalidRequest(
                f"expiresInMinutes must be from {SHORTEST_TOKEN_MINUTES} to {self._token_lifetime_minutes}."
            )
        session = caller.session
        try:
            if session is not None and session.acs_user_id is not None:
                issued = self._provisioning.issue_cached(caller.user, session.acs_user_id, scopes, minutes)
            else:
                issued = self._provisioning.issue(
                    caller.user,
                    caller.identity if session is None else self._identities.find(caller.user.id),
                    scopes,
                    minutes,
                    still_signed_in=lambda: session is None or self._sessions.exists(session.key),
                )
        except NotSignedIn:
            if session is not None:
                self._sessions.end(session.key)
            raise
        self._usage.count(TOKEN)
        return issued

    def exchange_teams_token(self, caller: Caller, entra_token: str) -> AccessToken:
        """Exchange the caller's own Entra ID token for Teams. Their ACS identity has no part in it.

        Raises InvalidTeamsToken, OtherUser or ClientNotAllowed.
        """
        client_id = self._teams_tokens.find_client(entra_token, caller.user.id)
        token = self._communication.exchange_teams_token(entra_token, client_id, caller.user.id.object_id)
        self._usage.count(TOKEN)
        return token

    def note_use(self, caller: Caller, issued: IssuedToken | None) -> None:
        """Record what a request did. Runs after its response, which it never fails."""
        try:
            if issued is not None and self._token_note_is_due(caller, issued):
                try:
                    self._note_token(caller, issued)
                finally:
                    self._audit_change(caller.user.id, issued)
            elif caller.session is not None and self._sessions.seen_is_due(caller.session):
                self._sessions.note(caller.session)
        except UpstreamError as error:
            log.warning("use_not_noted", user=str(caller.user.id), reason=str(error))

    def _token_note_is_due(self, caller: Caller, issued: IssuedToken) -> bool:
        row = issued.row
        if issued.change is not None or (row is not None and caller.session is not None):
            return True  # the mapping is new, or the session has not cached the identity
        idle = _idle_time(caller, issued)
        return idle > TOKEN_NOTED_EVERY or (row is not None and not row.indexed and idle > JUST_NOW)

    def _note_token(self, caller: Caller, issued: IssuedToken) -> None:
        now, user_id, row = datetime.now(UTC), caller.user.id, issued.row
        if caller.session is not None:
            cacheable = row is not None and not row.held
            acs_user_id = issued.acs_user_id if cacheable else None
            self._sessions.note(caller.session, acs_user_id=acs_user_id, token_noted_at=now)
        idle = _idle_time(caller, issued)
        if idle > JUST_NOW:  # a row that was just inserted says so already
            self._identities.note_token(user_id, now)
        is_first_today = idle > now - now.replace(hour=0, minute=0, second=0)
        try:
            self._index.update(user_id, row if issued.change == "created" else None, force=is_first_today)
        except UpstreamError:
            self._sessions.forget_identity(user_id)  # so that the next token reads the row, and comes here
            raise

    def _audit_change(self, user_id: UserId, issued: IssuedToken) -> None:
        if issued.change is not None:
            was = f"{issued.former_acs_user_id} -> " if issued.former_acs_user_id else ""
            self._audit.note(SYSTEM, f"identity-{issued.change}", user_id, f"{was}{issued.acs_user_id}")


def _idle_time(caller: Caller, issued: IssuedToken) -> timedelta:
    """How long ago the user's last token was recorded, as far as this request knows."""
    if issued.row is not None:
        last = issued.row.last_token_at
    else:
        last = caller.session.token_noted_at if caller.session else None
    return timedelta.max if last is None else datetime.now(UTC) - last
