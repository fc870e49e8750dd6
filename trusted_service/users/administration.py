"""Actions on a user: block, unblock, revoke, sign out, delete.

An action is audited before it begins, and takes effect on the next request on every instance. First it shuts
the user out, last it cleans up, so repeating an interrupted action finishes it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from trusted_service import errors
from trusted_service.access.administrators import Administrators
from trusted_service.access.erasure import Erasure, may_have_tokens
from trusted_service.access.resource_pin import ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure import deadlines, shares
from trusted_service.azure.communication import Communication
from trusted_service.background import BackgroundTasks
from trusted_service.models import MAX_REASON, Actor, Identity, Session, UserId
from trusted_service.storage.attempts import attempts
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.tables import RowChanged
from trusted_service.texts import join_lines

log = structlog.get_logger(__name__)

SWEEP_DELAYS = (2.0, deadlines.REQUEST_SECONDS + 1)
"""Seconds after a block by which nearly all, then all, requests that read the session before it are over."""
RETRY_DELAYS = (2.0, 10.0, 30.0, 30.0)

Condition = Callable[[], bool] | None


@dataclass(frozen=True, slots=True)
class Administration:
    identities: IdentityTable
    sessions: SessionTable
    ledger: Ledger
    communication: Communication
    index: UserIndex
    pin: ResourcePin
    erasure: Erasure
    administrators: Administrators
    audit: AuditTrail
    background: BackgroundTasks
    tenants: Sequence[str]

    def block(
        self,
        actor: Actor,
        user_id: UserId,
        reason: str = "",
        *,
        confirmed: bool = False,
        only_if: Condition = None,
    ) -> None:
        """Keep the user out, with or without a row. Raises Conflict first if `only_if` returns false.

        Raises NotFound for a new row of a tenant that is not allowed, unless a repair brings it back; and
        OwnAccount, or LastAdministrator unless `confirmed`.
        """
        if only_if is None and user_id.tenant_id not in self.tenants:
            self.identities.get(user_id)
        reason = join_lines(reason, MAX_REASON)
        with self.audit.action(actor, "block", user_id, reason):
            _require(only_if)
            self.administrators.check_removal(actor, user_id, confirmed=confirmed or only_if is not None)
            self.index.begin()
            try:
                # The row first: a sign-in reads it once its session exists, so either sees the other.
                self._finish_block(self.identities.block(user_id, reason))
            except errors.UpstreamError:
                self._run_after(0.0, self.finish_block, user_id, "block_not_finished")
                raise

    def unblock(self, actor: Actor, user_id: UserId) -> None:
        """Let the user in again. A row that only held the block is removed. Raises NotFound."""
        self.identities.get(user_id)
        with self.audit.action(actor, "unblock", user_id):
            identity = self._change(user_id, self._lift_block)
            self.administrators.clear_leaving(user_id)
            if identity.acs_user_id is not None:
                self._index(user_id)

    def revoke(self, actor: Actor, user_id: UserId) -> None:
        """Revoke every ACS token of the user. Raises NotFound."""
        identity = self.identities.get(user_id)
        with self.audit.action(actor, "revoke", user_id):
            self._revoke(identity)

    def revoke_own(self, actor: Actor, user_id: UserId) -> None:
        """Revoke every ACS token of the acting user, who may have no row yet."""
        with contextlib.suppress(errors.NotFound), shares.for_user():
            self.revoke(actor, user_id)

    def sign_out(self, actor: Actor, user_id: UserId) -> None:
        with self.audit.action(actor, "sign-out", user_id):
            self.sessions.end_all(user_id)

    def end_session(self, actor: Actor, user_id: UserId, session_row_key: str) -> None:
        """End the user's session whose key has this second part, if there is one."""
        with contextlib.suppress(errors.Conflict), self.audit.action(actor, "end-session", user_id):
            if not self.sessions.end_one(user_id, session_row_key):
                raise errors.Conflict("no such session")

    def end_other_sessions(self, actor: Actor, user_id: UserId, own: Session) -> None:
        with self.audit.action(actor, "end-session", user_id, "all others"):
            self.sessions.end_all(user_id, but=own)

    def delete(
        self, actor: Actor, user_id: UserId, *, confirmed: bool = False, only_if: Condition = None
    ) -> bool:
        """Erase all but a block; return whether there was a row. Raises what `block` does but NotFound."""
        with self.audit.action(actor, "delete", user_id), shares.for_user(actor.kind == "user"):
            _require(only_if)
            self.administrators.check_removal(actor, user_id, confirmed=confirmed or only_if is not None)
            # First: a first token in progress checks in the opposite order, so one of the two sees the other.
            self.sessions.end_all(user_id)
            if self.administrators.retire(user_id):
                self._run_after(SWEEP_DELAYS[-1], self.administrators.forget, user_id, "row_not_forgotten")
            try:
                self._erase(user_id, only_if)
            except errors.NotFound:
                self.audit.erase_details(user_id)  # an earlier call may have been interrupted
                return False
            except errors.UpstreamUnavailable as error:
                if error.upstream == "Table Storage":  # the trail may be long; jobs retry what ACS refuses
                    self._run_after(0.0, self.finish_delete, user_id, "delete_not_finished")
                raise
            return True

    def finish_block(self, user_id: UserId) -> None:
        """Finish a block after a failure or a crash."""
        identity = self.identities.find(user_id)
        if identity is not None and identity.blocked and identity.blocking:
            self._finish_block(identity)

    def finish_delete(self, user_id: UserId) -> None:
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            self._erase(user_id, lambda: self.identities.get(user_id).deleting)

    def sweep(self, user_id: UserId) -> None:
        """Revoke a blocked user's tokens once more, for requests that were in progress during the block."""
        identity = self.identities.find(user_id)
        if identity is not None and identity.blocked:
            with _partly_done("block"):
                self._revoke(identity)

    def _finish_block(self, identity: Identity) -> None:
        with _partly_done("block-row"):
            self.sessions.end_all(identity.user_id)
        with _partly_done("block"), contextlib.suppress(errors.NotFound):
            self._index(identity.user_id, identity)
            self._change(identity.user_id, self._revoke_blocked)

    def _revoke_blocked(self, identity: Identity) -> None:
        """Revoke, and mark the block as finished. Raises RowChanged."""
        if not (identity.blocked and identity.blocking):
            return  # meanwhile it was lifted, or another task has finished it
        self._revoke(identity)
        for seconds in SWEEP_DELAYS:
            self._run_after(seconds, self.sweep, identity.user_id, "sweep_failed")
        self.identities.update(identity, blocking=False)
        self.identities.open_blocks.remove(identity.user_id)

    def _index(self, user_id: UserId, identity: Identity | None = None) -> None:
        """Make lists show the user as they now are; later, if the index cannot be written."""
        try:
            self.index.update(user_id, identity)
        except errors.UpstreamError as error:
            log.error("index_not_updated", user=str(user_id), reason=error.reason)
            self._run_after(RETRY_DELAYS[0], self.index.update, user_id, "index_not_updated")

    def _run_after(self, seconds: float, task: Callable[[UserId], None], user_id: UserId, event: str) -> None:
        failed = partial(log.error, event, user=str(user_id))
        self.background.run_after(seconds, partial(task, user_id), retries=RETRY_DELAYS, failed=failed)

    def _revoke(self, identity: Identity) -> None:
        """Revoke the tokens of all the user's identities; then raise the first failure, if any."""
        failures: list[errors.UpstreamError] = []
        for entry in self.ledger.all_of(identity):
            # A current identity of a former resource has had no token since the move.
            if may_have_tokens(identity, entry) or (
                entry.acs_user_id == identity.acs_user_id and self.pin.standing(entry.acs_user_id) != "moved"
            ):
                try:
                    self.communication.revoke_tokens(entry.acs_user_id)
                except errors.UpstreamError as error:
                    failures.append(error)
        if failures:
            raise next((one for one in failures if isinstance(one, errors.UpstreamThrottled)), failures[0])

    def _erase(self, user_id: UserId, only_if: Condition) -> None:
        left: list[str] = []

        def mark(identity: Identity) -> None:
            _require(only_if)
            self.identities.update(identity, deleting=True)

        def finish(identity: Identity) -> None:
            if identity.deleting and identity.acs_user_id == marked.acs_user_id:
                left.extend(self.erasure.delete_identities(identity))
                self.erasure.forget(identity)
            # Otherwise another process has finished the deletion, and this row is a new one.

        marked = self._change(user_id, mark)
        with _partly_done("delete-row"), contextlib.suppress(errors.NotFound):
            self._change(user_id, finish)
        if left:
            reason = "tokens of identities of another resource may still be valid"  # the log names them
            with _partly_done("delete"):
                raise errors.UpstreamUnavailable("Communication Services", reason)

    def _lift_block(self, identity: Identity) -> None:
        row = self.identities.update(identity, blocked=False, block_reason="", blocking=False, indexed=False)
        if identity.acs_user_id is None:
            self.index.forget(identity)
            # Before the row goes, without which nothing leads to the reason. Repeating the action goes on.
            self.audit.erase_details(identity.user_id)
            self.identities.remove(row)

    def _change(self, user_id: UserId, change: Callable[[Identity], object]) -> Identity:
        """Apply `change`, retrying if the row changes meanwhile; return it as read. Raises NotFound."""
        for _ in attempts():
            identity = self.identities.get(user_id)
            with contextlib.suppress(RowChanged):
                change(identity)
                return identity
        raise errors.ChangedTooOften


def _require(only_if: Condition) -> None:
    if only_if is not None and not only_if():
        raise errors.Conflict("The user has changed in the meantime.")


@contextlib.contextmanager
def _partly_done(what: errors.Done) -> Iterator[None]:
    """If the body fails, record on the error what has already taken effect."""
    try:
        yield
    except errors.UpstreamError as error:
        error.done = what
        raise
