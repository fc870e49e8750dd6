"""Finds and mends what a crash or a restored older copy leaves behind. Doing it again finds nothing more.

- A block or deletion that was interrupted is finished.
- A user whom lists do not show as they are is indexed.
- According to the audit trail, a user should be blocked or erased, but is not. Restoring an older copy of
  a table causes that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from trusted_service.administration import Administration
from trusted_service.errors import PARTLY_DONE, Conflict, UpstreamError
from trusted_service.identity_history import IdentityHistory
from trusted_service.models import Actor, AuditEvent, Identity, UserId
from trusted_service.storage.audit import AuditQuery, AuditTable
from trusted_service.storage.identities import IdentityTable
from trusted_service.user_index import UserIndex

Kind = Literal["half-deleted", "half-blocked", "block-lifted", "erased-user-back", "not-indexed"]
NOTED = ("identity-created",)
"""What is recorded once it is done, without a beginning."""
CLOCKS_DIFFER = timedelta(hours=2)
REVIVING = (*NOTED, "import", "restore")
"""Actions after which a deleted user rightly has a row again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is not as it should be, of one user; `failure` says why it could not be mended."""

    kind: Kind
    user_id: UserId
    detail: str = ""
    failure: str = ""


@dataclass(slots=True)
class _LastWord:
    """For each user, the last action that took effect: on their block, and on their existence.

    One that lets somebody in counts from its end, others from their beginning, so that of two actions that
    overlap nothing is concluded against the user.
    """

    block: dict[UserId, AuditEvent] = field(default_factory=dict)
    life: dict[UserId, AuditEvent] = field(default_factory=dict)

    def note(self, event: AuditEvent, outcome: AuditEvent | None) -> None:
        """Take in an action, given its beginning and its outcome."""
        user_id = event.target
        if user_id is None or event.action not in ("block", "unblock", "delete", *REVIVING):
            return
        if outcome is not None and event.action not in ("block", "delete"):
            event = replace(event, at=outcome.at)
        last = self.block if event.action in ("block", "unblock") else self.life
        known = last.get(user_id)
        if known is None or known.at < event.at:
            last[user_id] = event

    def find_lifted(self, user_id: UserId, identity: Identity | None) -> Finding | None:
        """The block that is not in the row although nobody lifted it."""
        event = self.block.get(user_id)
        if event is None or event.action != "block" or (identity is not None and identity.blocked):
            return None
        return Finding(kind="block-lifted", user_id=user_id, detail=event.detail)

    def find_erasure(self, identity: Identity) -> AuditEvent | None:
        """The erasure after which nothing gave the user a row with an identity again."""
        event = self.life.get(identity.user_id)
        return event if event and event.action == "delete" and identity.acs_user_id else None


class Repair:
    """Methods raise UpstreamError where rows or the trail cannot be read."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        index: UserIndex,
        administration: Administration,
        audit: AuditTable,
        history: IdentityHistory,
    ) -> None:
        self._identities = identities
        self._index = index
        self._administration = administration
        self._audit = audit
        self._history = history

    def run(self, actor: Actor, *, dry_run: bool) -> Iterator[Finding]:
        """Yield each finding; it is mended by then, unless this is a dry run or that failed.

        Holds two events of the trail for each user of whom it tells in memory.
        """
        last_word = self._read_trail(AuditQuery())
        for identity in self._identities.all():
            finding = self._find(identity.user_id, identity, last_word)
            yield from self._mended(actor, finding, dry_run=dry_run)
        for user_id in last_word.block:
            if self._identities.find(user_id) is None:
                finding = self._find(user_id, None, last_word)
                yield from self._mended(actor, finding, dry_run=dry_run)

    def _find(self, user_id: UserId, identity: Identity | None, last_word: _LastWord) -> Finding | None:
        lifted = last_word.find_lifted(user_id, identity)
        if identity is None:
            return lifted
        if identity.deleting:
            return Finding(kind="half-deleted", user_id=user_id)
        erasure = last_word.find_erasure(identity)
        if erasure is not None and self._is_older(identity, erasure):
            return Finding(kind="erased-user-back", user_id=user_id)
        if identity.blocking:
            return Finding(kind="half-blocked", user_id=user_id, detail=identity.block_reason)
        if lifted is not None:
            return lifted
        if not identity.indexed:
            return Finding(kind="not-indexed", user_id=user_id)
        return None

    def _is_older(self, identity: Identity, erasure: AuditEvent) -> bool:
        """Whether the row is from before the erasure, which leaves the identity without an owner.

        Where the ledger is an older copy too, times tell, as far as the clocks of instances are trusted.
        """
        entry = self._history.find(identity.acs_user_id or "")
        if entry is not None and entry.owner is None:
            return True
        return identity.created_at < erasure.at - CLOCKS_DIFFER

    def _mended(self, actor: Actor, finding: Finding | None, *, dry_run: bool) -> Iterator[Finding]:
        """Mend it, unless this is a dry run; a failure concerns this user alone.

        Nothing is found where it has come right by itself meanwhile.
        """
        if finding is None:
            return
        try:
            if not dry_run:
                self._mend(actor, finding)
        except UpstreamError as error:
            yield replace(finding, failure=str(error))
        except Conflict:
            pass
        else:
            yield finding

    def _mend(self, actor: Actor, finding: Finding) -> None:
        user_id = finding.user_id

        def still_so() -> bool:
            # Rows and trail were read some time ago, and people act meanwhile.
            last_word = self._read_trail(AuditQuery(target=user_id))
            return self._find(user_id, self._identities.find(user_id), last_word) == finding

        match finding.kind:
            case "half-deleted" | "erased-user-back":
                self._administration.delete(actor, user_id, only_if=still_so)
            case "half-blocked" | "block-lifted":
                self._administration.block(actor, user_id, finding.detail, only_if=still_so)
            case "not-indexed":
                self._index.update(user_id)

    def _read_trail(self, query: AuditQuery) -> _LastWord:
        last_word = _LastWord()
        outcomes: dict[str, AuditEvent] = {}
        for event in self._audit.all(query):  # the newest first, so outcomes before beginnings
            if event.outcome != "started" and event.action not in NOTED:
                outcomes[event.action_id] = event
                continue
            outcome = outcomes.pop(event.action_id, None)
            if _took_effect(event, outcome):
                last_word.note(event, outcome)
        return last_word


def _took_effect(event: AuditEvent, outcome: AuditEvent | None) -> bool:
    """Whether an action took effect, given its beginning and its outcome.

    An action that failed, or whose process died, may have taken effect all the same. It is believed where it
    lets somebody in, so that nothing is taken from anybody on a guess.
    """
    if event.action in ("unblock", *REVIVING):
        return True
    if outcome is None:
        return False
    partly = PARTLY_DONE.get("block" if event.action == "block" else "delete", "")
    return outcome.outcome == "done" or outcome.detail.startswith(partly)
