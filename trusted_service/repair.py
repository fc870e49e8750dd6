"""Finds and mends what a crash or a restored older copy leaves behind. Doing it again finds nothing more.

- A block or deletion that was interrupted is finished.
- A user whom lists do not show as they are is indexed.
- A block that was lifted, or an erased user who is back, without anybody having done that: a table restored
  from an older copy does it. The audit trail tells.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from trusted_service.administration import Administration
from trusted_service.errors import PARTLY_DONE, UpstreamError
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
    """For each user, the action that began last and took effect: on their block, and on their existence."""

    block: dict[UserId, AuditEvent] = field(default_factory=dict)
    life: dict[UserId, AuditEvent] = field(default_factory=dict)

    def find_lifted(self, identity: Identity) -> AuditEvent | None:
        """The block that is not in the row although nobody lifted it."""
        event = self.block.get(identity.user_id)
        return event if event is not None and event.action == "block" and not identity.blocked else None

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
        last_word = self._read_trail()
        for identity in self._identities.all():
            finding = self._find(identity, last_word)
            if finding is not None:
                yield self._mended(actor, finding, dry_run=dry_run)
        for user_id, event in last_word.block.items():
            if event.action == "block" and self._identities.find(user_id) is None:
                finding = Finding(kind="block-lifted", user_id=user_id, detail=event.detail)
                yield self._mended(actor, finding, dry_run=dry_run)

    def _find(self, identity: Identity, last_word: _LastWord) -> Finding | None:
        user_id = identity.user_id
        if identity.deleting:
            return Finding(kind="half-deleted", user_id=user_id)
        erasure = last_word.find_erasure(identity)
        if erasure is not None and self._is_older(identity, erasure):
            return Finding(kind="erased-user-back", user_id=user_id)
        if identity.blocking:
            return Finding(kind="half-blocked", user_id=user_id, detail=identity.block_reason)
        lifted = last_word.find_lifted(identity)
        if lifted is not None:
            return Finding(kind="block-lifted", user_id=user_id, detail=lifted.detail)
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

    def _mended(self, actor: Actor, finding: Finding, *, dry_run: bool) -> Finding:
        """Mend it, unless this is a dry run; a failure concerns this user alone."""
        if dry_run:
            return finding
        try:
            self._mend(actor, finding)
        except UpstreamError as error:
            return replace(finding, failure=str(error))
        return finding

    def _mend(self, actor: Actor, finding: Finding) -> None:
        match finding.kind:
            case "half-deleted" | "erased-user-back":
                self._administration.delete(actor, finding.user_id)
            case "half-blocked" | "block-lifted":
                self._administration.block(actor, finding.user_id, finding.detail)
            case "not-indexed":
                self._index.update(finding.user_id)

    def _read_trail(self) -> _LastWord:
        last_word = _LastWord()
        outcomes: dict[str, AuditEvent] = {}
        for event in self._audit.all(AuditQuery()):  # the newest first, so outcomes before beginnings
            if event.target is None:
                continue
            if event.outcome != "started" and event.action not in NOTED:
                outcomes[event.action_id] = event
            elif not _took_effect(event, outcomes.pop(event.action_id, None)):
                continue
            elif event.action in ("block", "unblock"):
                last_word.block.setdefault(event.target, event)
            elif event.action in ("delete", *REVIVING):
                last_word.life.setdefault(event.target, event)
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
