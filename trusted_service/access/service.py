"""The rules for callers, whether by cookie or token: who gets in, who gets a token, and for what."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from trusted_service.access.provisioning import Provisioning
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure.communication import Communication
from trusted_service.entra.sign_in import SignedIn
from trusted_service.entra.tokens import EntraTokens
from trusted_service.errors import Blocked, NotSignedIn, UpstreamError
from trusted_service.models import SYSTEM, AccessToken, Caller, IssuedToken, Session, TokenRequest, User
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import RowChanged
from trusted_service.usage import SIGN_IN, TOKEN, UsageCounter

log = structlog.get_logger(__name__)

TOKEN_RECORD_INTERVAL = timedelta(minutes=5)
JUST_NOW = timedelta(seconds=2)
"""A new row that is not indexed after that was left so by a crash or by a failing storage."""


@dataclass(frozen=True, slots=True)
class AccessService:
    """The actions of users for themselves."""

    identities: IdentityTable
    sessions: SessionTable
    provisioning: Provisioning
    communication: Communication
    entra_tokens: EntraTokens
    index: UserIndex
    audit: AuditTrail
    usage: UsageCounter

    def sign_in(self, signed_in: SignedIn, *, instead_of: Session | None, **browser: str) -> str:
        """Start a session, end the browser's old one, and return the new one's id. Raises Blocked instead.

        The session is inserted before the block is read: a later block ends it, an earlier one is seen. The
        same holds for other sign-ins at once: the last of them sees the sessions of all. If the oldest cannot
        be ended, the next sign-in ends them.
        """
        session_id, session = self.sessions.create(
            signed_in.user,
            entra_session_id=signed_in.session_id,
            login_hint=signed_in.login_hint,
            **browser,
        )
        try:
            self.admit(signed_in.user)
            with _logged("oldest_sessions_not_ended", signed_in.user):
                self.sessions.end_excess(session, instead_of)
            if instead_of is not None:
                self.sessions.end(instead_of.key)
        except BaseException:
            self.sessions.end(session.key)
            raise
        self.usage.count(SIGN_IN)
        return session_id

    def record_sign_in(self, user: User) -> None:
        """Record the user's current names, for searches too. Runs after the response and never fails it."""
        names = {"name": user.name, "username": user.username}
        with _logged("sign_in_not_recorded", user):
            identity = self.identities.find(user.id)
            if identity is None:
                return
            if (identity.name, identity.username) != (user.name, user.username):
                with contextlib.suppress(RowChanged):  # a later sign-in records them
                    identity = self.identities.update(identity, **names, indexed=False)
            self.index.update(user.id, identity)

    def admit(self, user: User) -> Caller:
        """The caller, by their row as it now is. Raises Blocked: an Entra ID token outlives a block."""
        identity = self.identities.find(user.id)
        if identity is not None and identity.blocked:
            raise Blocked
        return Caller(user=user, identity=identity)

    def find_acs_user_id(self, caller: Caller) -> str | None:
        """Return the caller's ACS identity, or None before their first token."""
        if caller.session is not None and caller.session.acs_user_id:
            return caller.session.acs_user_id
        identity = caller.identity if caller.session is None else self.identities.find(caller.user.id)
        return None if identity is None else identity.acs_user_id

    def issue_token(self, caller: Caller, scopes: tuple[str, ...], minutes: int) -> IssuedToken:
        """Issue a token for the caller's own identity. Raises Blocked, or NotSignedIn after a deletion."""
        session = caller.session
        session_key = None if session is None else session.key
        request = TokenRequest(user=caller.user, scopes=scopes, minutes=minutes, session_key=session_key)
        try:
            if session is not None and session.acs_user_id is not None:
                issued = self.provisioning.issue_cached(request, session.acs_user_id)
            else:
                identity = caller.identity if session is None else self.identities.find(caller.user.id)
                issued = self.provisioning.issue(request, identity)
        except NotSignedIn:
            if session is not None:
                self.sessions.end(session.key)
            raise
        self.usage.count(TOKEN)
        log.info("authn_token_created", acs_user_id=issued.acs_user_id, scopes=issued.scopes)
        return issued

    def exchange_teams_token(self, caller: Caller, entra_token: str) -> AccessToken:
        """Exchange the caller's token for Teams. Raises InvalidTeamsToken, OtherUser, ClientNotAllowed."""
        client_id = self.entra_tokens.get_teams_client(entra_token, caller.user.id)
        token = self.communication.exchange_teams_token(entra_token, client_id, caller.user.id.object_id)
        # Nobody can revoke the new token, so a caller who has been shut out meanwhile does not get it.
        self.admit(caller.user)
        if caller.session is not None and not self.sessions.exists(caller.session.key):
            raise NotSignedIn
        self.usage.count(TOKEN)
        log.info("teams_token_issued", user=str(caller.user.id))
        return token

    def recording(self, caller: Caller, issued: IssuedToken | None) -> Callable[[], None] | None:
        """Return the task that records what a request did, if that is due."""
        logged = _logged("use_not_recorded", caller.user)
        if issued is not None and self._is_token_due(caller, issued):
            return logged(partial(self._record_token, caller, issued))
        if caller.session is not None and self.sessions.is_use_due(caller.session):
            return logged(partial(self.sessions.record_use, caller.session))
        return None

    def _is_token_due(self, caller: Caller, issued: IssuedToken) -> bool:
        row = issued.row
        if issued.change is not None or (row is not None and caller.session is not None):
            return True  # the mapping is new, or the session has not cached the identity
        idle = _idle_time(caller, issued)
        return idle > TOKEN_RECORD_INTERVAL or (row is not None and not row.indexed and idle > JUST_NOW)

    def _record_token(self, caller: Caller, issued: IssuedToken) -> None:
        now, user_id, row = datetime.now(UTC), caller.user.id, issued.row
        if issued.change is not None:
            # Without the identities: the ledger has them, where an erasure removes their owner.
            self.audit.record(SYSTEM, f"identity-{issued.change}", user_id)
        if caller.session is not None:
            acs_user_id = None if row is None or row.held else issued.acs_user_id
            self.sessions.record_use(caller.session, acs_user_id=acs_user_id, token_recorded_at=now)
        idle = _idle_time(caller, issued)
        if idle > JUST_NOW:  # a row that was just inserted has the time already
            self.identities.update_if_present(user_id, last_token_at=now)
        is_first_today = idle > now - now.replace(hour=0, minute=0, second=0)
        try:
            self.index.update(user_id, row if issued.change == "created" else None, force=is_first_today)
        except UpstreamError:
            self.sessions.forget_identity(user_id)  # so that the next token reads the row and retries this
            raise


@contextlib.contextmanager
def _logged(event: str, user: User) -> Iterator[None]:
    """Log an UpstreamError as this event."""
    try:
        yield
    except UpstreamError as error:
        log.warning(event, user=str(user.id), reason=str(error))


def _idle_time(caller: Caller, issued: IssuedToken) -> timedelta:
    """Return the time since the user's last recorded token, as far as this request knows."""
    if issued.row is not None:
        last = issued.row.last_token_at
    else:
        last = caller.session.token_recorded_at if caller.session else None
    return timedelta.max if last is None else datetime.now(UTC) - last
