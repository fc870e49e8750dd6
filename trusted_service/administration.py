"""What administrators, operators and users themselves may do to a user: block, revoke, sign out, delete.

Each action is in the audit trail before it begins. Each takes effect on the next request on every
instance, because what it changes is what every request reads. The order of the steps makes a crash
in between harmless: what shuts somebody out comes first, what tidies up comes last, and doing the
action again finishes it.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import structlog

from trusted_service import upstream
from trusted_service.audit import AuditTrail
from trusted_service.communication import Communication
from trusted_service.erasure import Erasure
from trusted_service.errors import (
    COMMUNICATION_SERVICES,
    Conflict,
    Done,
    NotFound,
    UpstreamError,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from trusted_service.identity_history import IdentityHistory, may_have_tokens
from trusted_service.later import Later
from trusted_service.models import Actor, Identity, UserId
from trusted_service.representation import (
    event_json,
    ledger_json,
    session_json,
    unknown_user_json,
    user_json,
)
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import RowChanged
from trusted_service.user_index import UserIndex

log = structlog.get_logger(__name__)

ATTEMPTS = 4
SWEEPS_AFTER = (2.0, upstream.REQUEST_SECONDS + 1)
"""Seconds after a block: nearly all requests that had read the session before are over, then all of them."""
INDEX_RETRY_SECONDS = 30.0
SWEEPS, SWEEP_RETRY_SECONDS = 4, 30.0


def _always() -> bool:
    return True


class Administration:
    """Methods raise UpstreamError where an upstream fails, and may then be called again."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        sessions: SessionTable,
        communication: Communication,
        history: IdentityHistory,
        index: UserIndex,
        pin: ResourcePin,
        erasure: Erasure,
        audit: AuditTrail,
        later: Later,
    ) -> None:
        self._identities = identities
        self._sessions = sessions
        self._communication = communication
        self._history = history
        self._index = index
        self._pin = pin
        self._erasure = erasure
        self._audit = audit
        self._later = later

    def block(
        self, actor: Actor, user_id: UserId, reason: str = "", *, only_if: Callable[[], bool] = _always
    ) -> None:
        """Keep the user out, whether or not they ever came: no sign-in, no session, no token.

        Raises Conflict, and changes nothing, where `only_if` says no once this is in the audit trail.
        """
        with self._audit.action(actor, "block", user_id, reason):
            _require(only_if)
            # Before the block too: were it the last thing that we do, no session would outlive it. And after
            # it, for one that begins in between: a sign-in looks for the block when its session is there.
            self._sessions.end_all(user_id)
            self._index.begin()
            identity = self._identities.set_blocked(user_id, reason, datetime.now(UTC))
            with _done("block"):
                self._sessions.end_all(user_id)
                self._show(user_id, identity)
                if identity.acs_user_id is not None:
                    self._sweep_later(user_id)
                self._revoke(identity)
                self._identities.note_block_done(user_id)

    def unblock(self, actor: Actor, user_id: UserId) -> None:
        """Let the user in again. A row that only held the block goes. Raises NotFound without a row."""
        self._get(user_id)
        with self._audit.action(actor, "unblock", user_id):
            identity = self._changing(user_id, self._lift_block)
            if identity.acs_user_id is not None:
                self._show(user_id)

    def revoke(self, actor: Actor, user_id: UserId) -> None:
        """End every ACS token of the user. Raises NotFound without a row."""
        identity = self._get(user_id)
        with self._audit.action(actor, "revoke", user_id):
            self._revoke(identity)

    def revoke_own(self, actor: Actor, user_id: UserId) -> None:
        """The same for users themselves, who may have no identity yet."""
        with contextlib.suppress(NotFound):
            self.revoke(actor, user_id)

    def sign_out(self, actor: Actor, user_id: UserId) -> None:
        """End every session of the user."""
        with self._audit.action(actor, "sign-out", user_id):
            self._sessions.end_all(user_id)

    def end_session(self, actor: Actor, user_id: UserId, session_row_key: str) -> None:
        """End one session of the user."""
        with self._audit.action(actor, "end-session", user_id):
            self._sessions.end_one(user_id, session_row_key)

    def delete(self, actor: Actor, user_id: UserId, *, only_if: Callable[[], bool] = _always) -> bool:
        """Erase sessions, ACS identity and mapping; only a block stays. Return whether there was a row.

        Raises Conflict, and erases nothing but sessions, where `only_if` says no of the row as it is.
        """
        with self._audit.action(actor, "delete", user_id):
            # Sessions before the row is looked for: a first token that is under way checks in the
            # opposite order, so one of the two sees the other.
            self._sessions.end_all(user_id)
            try:
                unreachable = self._erase(user_id, only_if)
            except NotFound:
                return False
            if unreachable:
                with _done("delete"):
                    raise _unreachable(unreachable)
            return True

    def export(self, user_id: UserId) -> dict[str, Any]:
        """All that is stored about the user, as JSON; the ids of sessions are not stored, so not here."""
        identity = self._identities.find(user_id)
        return {
            "user": unknown_user_json(user_id) if identity is None else user_json(identity),
            "blockReason": "" if identity is None else identity.block_reason,
            "identities": []
            if identity is None
            else [ledger_json(entry) for entry in self._history.all_of(identity)],
            "sessions": [session_json(session) for session in self._sessions.of_user(user_id)],
            "audit": [event_json(event) for event in self._audit.about(user_id)],
        }

    def sweep(self, user_id: UserId) -> None:
        """Revoke a blocked user's tokens once more, for requests that were in progress during the block."""
        identity = self._identities.find(user_id)
        if identity is not None and identity.blocked:
            self._revoke(identity)

    def _show(self, user_id: UserId, identity: Identity | None = None) -> None:
        """Let lists show the user as they are now: soon, where the index cannot be written."""
        try:
            self._index.update(user_id, identity)
        except UpstreamError as error:
            log.error("index_not_updated", user=str(user_id), reason=error.reason)
            self._later.do_in(INDEX_RETRY_SECONDS, functools.partial(self._index.update, user_id))

    def _revoke(self, identity: Identity) -> None:
        """Revoke the tokens of every identity of the user of which some may still be good.

        One that fails keeps none of the others from being revoked; then the first failure is raised.
        """
        failures: list[UpstreamError] = []
        for entry in self._history.all_of(identity):
            is_current = entry.acs_user_id == identity.acs_user_id
            # A current identity of a former resource has had no token since the move.
            if may_have_tokens(identity, entry) or (
                is_current and self._pin.standing(entry.acs_user_id) != "moved"
            ):
                try:
                    self._communication.revoke_tokens(entry.acs_user_id)
                except UpstreamError as error:
                    failures.append(error)
        if failures:
            raise next((one for one in failures if isinstance(one, UpstreamThrottled)), failures[0])

    def _erase(self, user_id: UserId, only_if: Callable[[], bool]) -> list[str]:
        """Return what `Erasure.delete_identities` does.

        Raises NotFound where there is no row, or it was just erased.
        """
        unreachable: set[str] = set()

        def mark(identity: Identity) -> None:
            _require(only_if)
            self._identities.set_deleting(identity)

        def finish(identity: Identity) -> None:
            if identity.deleting and identity.acs_user_id == marked.acs_user_id:
                unreachable.update(self._erasure.delete_identities(identity))
                self._erasure.forget(identity)
            # Else another process has finished this, and the user has come back since: it is another row.

        marked = self._changing(user_id, mark)
        with _done("delete-row"), contextlib.suppress(NotFound):
            self._changing(user_id, finish)
        return sorted(unreachable)

    def _get(self, user_id: UserId) -> Identity:
        identity = self._identities.find(user_id)
        if identity is None:
            raise NotFound
        return identity

    def _lift_block(self, identity: Identity) -> None:
        unblocked = self._identities.set_unblocked(identity)
        if identity.acs_user_id is None:
            self._index.forget(identity)
            self._identities.remove(unblocked)

    def _changing(self, user_id: UserId, change: Callable[[Identity], object]) -> Identity:
        """Change the row as it is, again if somebody else writes it meanwhile; return what was changed.

        Raises NotFound where it is gone.
        """
        for _ in range(ATTEMPTS):
            identity = self._get(user_id)
            try:
                change(identity)
            except RowChanged:
                continue
            return identity
        raise UpstreamUnavailable("Table Storage", "the row changed too often")

    def _sweep_later(self, user_id: UserId) -> None:
        for seconds in SWEEPS_AFTER:
            self._later.do_in(seconds, functools.partial(self._sweep, user_id, SWEEPS))

    def _sweep(self, user_id: UserId, tries: int) -> None:
        try:
            self.sweep(user_id)
        except UpstreamError as error:
            log.error("sweep_failed", user=str(user_id), reason=error.reason, tries_left=tries - 1)
            if tries > 1:
                self._later.do_in(SWEEP_RETRY_SECONDS, functools.partial(self._sweep, user_id, tries - 1))


def _require(only_if: Callable[[], bool]) -> None:
    if not only_if():
        raise Conflict("The user has changed meanwhile.")


@contextlib.contextmanager
def _done(what: Done) -> Iterator[None]:
    """Let a failure inside say what is in force all the same."""
    try:
        yield
    except UpstreamError as error:
        error.done = what
        raise


def _unreachable(identities: list[str]) -> UpstreamUnavailable:
    reason = f"tokens of {', '.join(identities)} may be good, and belong to another resource"
    return UpstreamUnavailable(COMMUNICATION_SERVICES, reason)
