"""The rules: who gets in, who gets a token, and for what.

It does not know how a caller was found out (cookie or bearer token), nor what HTTP is.
"""

from datetime import UTC, datetime, timedelta

import structlog

from trusted_service.entra.sign_in import SignedIn
from trusted_service.errors import Blocked, InvalidRequest, NotSignedIn, UpstreamError
from trusted_service.mapping import Mapping
from trusted_service.models import Caller, IssuedToken, Session, SessionOrigin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable

log = structlog.get_logger(__name__)

TOKEN_NOTED_EVERY = timedelta(minutes=5)
SHORTEST_TOKEN_MINUTES = 60


class AccessService:
    """What a person may do for themselves. Methods raise UpstreamError where an upstream fails."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        sessions: SessionTable,
        mapping: Mapping,
        token_scopes: tuple[str, ...],
        token_lifetime_minutes: int,
    ) -> None:
        self._identities = identities
        self._sessions = sessions
        self._mapping = mapping
        self._token_scopes = token_scopes
        self._token_lifetime_minutes = token_lifetime_minutes

    def sign_in(
        self, signed_in: SignedIn, *, instead_of: Session | None, origin: SessionOrigin
    ) -> str:
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
        if identity is not None and (identity.name, identity.username) != (user.name, user.username):
            self._identities.note_names(user)
        return session_id

    def find_session(self, session_id: str) -> Session | None:
        return self._sessions.find(session_id)

    def sign_out(self, session: Session) -> None:
        self._sessions.end(session.key)

    def end_entra_session(self, entra_session_id: str) -> int:
        """End every session that this Entra ID session (`sid`) started; return how many."""
        return self._sessions.end_entra_session(entra_session_id)

    def find_acs_user_id(self, caller: Caller) -> str | None:
        """The caller's ACS identity; None before their first token."""
        if caller.session is not None and caller.session.acs_user_id:
            return caller.session.acs_user_id
        identity = self._identities.find(caller.user.id)
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
            return self._mapping.issue(
                caller.user,
                None if session is None else session.acs_user_id,
                scopes,
                minutes,
                still_signed_in=lambda: session is None or self._sessions.exists(session.key),
            )
        except NotSignedIn:
            if session is not None:
                self._sessions.end(session.key)
            raise

    def note_use(self, session: Session, issued: IssuedToken | None) -> None:
        """Write down that a session was used, and for what. Comes after the answer, and never fails it."""
        now = datetime.now(UTC)
        noted = session.token_noted_at
        token_due = issued is not None and (noted is None or now - noted > TOKEN_NOTED_EVERY)
        learned = issued is not None and issued.acs_user_id != session.acs_user_id
        try:
            if issued is not None and (token_due or learned):
                self._sessions.note(session, acs_user_id=issued.acs_user_id, token_noted_at=now)
                self._identities.note_token(session.user.id, now)
            elif self._sessions.seen_is_due(session):
                self._sessions.note(session)
        except UpstreamError as error:
            log.warning("use_not_noted", user=str(session.user.id), reason=str(error))
