"""Finds and repairs what a crash or a restored older copy leaves behind. Repeating it finds nothing more.

Interrupted blocks and deletions are finished, outdated index rows written, and users blocked or erased whom
the audit trail says to be so: restoring an older copy of a table lets them back in. Rows that the copy lacks
are taken from the ledger, or their users would get other identities. Names that older versions stored with
actions are removed.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog

from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditQuery, AuditTrail
from trusted_service.errors import Conflict, UpstreamError
from trusted_service.models import SYSTEM, Actor, AuditEvent, Identity, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.open_blocks import IN_PROGRESS_SECONDS
from trusted_service.storage.tables import RowChanged, RowExists, Table
from trusted_service.users.administration import Administration

log = structlog.get_logger(__name__)

OUTCOME_ONLY = ("identity-created",)
"""Recorded once done, without a beginning."""
REVIVING = (*OUTCOME_ONLY, "import", "restore")
"""Actions after which a deleted user rightly has a row again."""
CLOCK_TOLERANCE = timedelta(hours=2)
FINISH_SECONDS = 5.0
"""How often a process looks for blocks of others to finish."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Something wrong with one user; `failure` says why it could not be repaired."""

    kind: Literal["half-deleted", "half-blocked", "block-lifted", "erased-user-back", "not-indexed", "no-row"]
    user_id: UserId
    detail: str = ""
    failure: str = ""


@dataclass(slots=True)
class _LatestActions:
    """For each user, the latest action that took effect: on their block, and on their existence.

    An action that lets somebody in counts from its end, others from their beginning.
    """

    block: dict[UserId, AuditEvent] = field(default_factory=dict)
    life: dict[UserId, AuditEvent] = field(default_factory=dict)

    def add(self, event: AuditEvent, outcome: AuditEvent | None) -> None:
        """Add an action, given its beginning and its outcome."""
        user_id = event.target
        if user_id is None or event.action not in ("block", "unblock", "delete", *REVIVING):
            return
        if outcome is not None and event.action not in ("block", "delete"):
            event = replace(event, at=outcome.at)
        latest = self.block if event.action in ("block", "unblock") else self.life
        if user_id not in latest or latest[user_id].at < event.at:
            latest[user_id] = event


@dataclass(frozen=True, slots=True)
class Repair:
    identities: IdentityTable
    ledger: Ledger
    index: UserIndex
    administration: Administration
    audit: AuditTrail
    with_names: Sequence[Table]
    retention_audit_days: int

    def run(self, actor: Actor, *, dry_run: bool) -> Iterator[Damage]:
        """Yield each damage, repaired unless this is a dry run or the repair failed."""
        if not dry_run:
            self._remove_names()
        actions = self._read_trail()
        lost = {entry.owner: entry for entry in self.ledger.all() if entry.owner and entry.until is None}
        for identity in self.identities.all():
            lost.pop(identity.user_id, None)
        for user_id, entry in lost.items():
            if (latest := actions.life.get(user_id)) is None or latest.action != "delete":
                damage = Damage(kind="no-row", user_id=user_id, detail=entry.acs_user_id)
                yield from self._repaired(actor, damage, dry_run=dry_run)
        for identity in self.identities.all():
            yield from self._repaired(actor, self._find(identity.user_id, identity, actions), dry_run=dry_run)
        for user_id in actions.block:
            if self.identities.find(user_id) is None:
                yield from self._repaired(actor, self._find(user_id, None, actions), dry_run=dry_run)

    def _remove_names(self) -> None:
        """Blank the actors' names that older versions stored."""
        for table in self.with_names:
            for row in table.query("ActorName gt @empty", {"empty": ""}, columns=()):
                with suppress(RowChanged):
                    table.merge({**row, "ActorName": ""})

    def finish_blocks(self, in_progress: float = IN_PROGRESS_SECONDS) -> None:
        """Finish blocks whose processes died: until then one that only reached the row leaves sessions."""
        open_blocks = self.identities.open_blocks
        for user_id, version in open_blocks.claim(in_progress):
            try:
                identity = self.identities.find(user_id)
                if identity is None or not identity.blocking:  # it failed before the row, or was lifted
                    open_blocks.remove(user_id, version=version)
                    continue
                self.administration.finish_block(user_id)
            except UpstreamError as error:
                log.error("block_not_finished", user=str(user_id), reason=error.reason)
                return  # the others would probably fail too
            self.audit.record(SYSTEM, "block", user_id, "finished for a process that died or failed")

    def _find(self, user_id: UserId, identity: Identity | None, actions: _LatestActions) -> Damage | None:
        block = actions.block.get(user_id)
        lifted = None
        if block and block.action == "block" and not (identity and identity.blocked):
            lifted = Damage(kind="block-lifted", user_id=user_id, detail=block.detail)
        if identity is None:
            return lifted
        if identity.deleting:
            return Damage(kind="half-deleted", user_id=user_id)
        latest = actions.life.get(user_id)
        if latest and latest.action == "delete" and identity.acs_user_id and self._is_older(identity, latest):
            return Damage(kind="erased-user-back", user_id=user_id)
        if identity.blocking:
            return Damage(kind="half-blocked", user_id=user_id, detail=identity.block_reason)
        if lifted is None and not identity.indexed:
            return Damage(kind="not-indexed", user_id=user_id)
        return lifted

    def _is_older(self, identity: Identity, erasure: AuditEvent) -> bool:
        """Whether the row is from before the erasure, which leaves the identity without an owner.

        If the ledger is an older copy too, times decide, as far as the clocks of instances are trusted.
        """
        entry = self.ledger.find(identity.acs_user_id or "")
        if entry is not None and entry.owner is None:
            return True
        return identity.created_at < erasure.at - CLOCK_TOLERANCE

    def _repaired(self, actor: Actor, damage: Damage | None, *, dry_run: bool) -> Iterator[Damage]:
        """Yield the damage once it is repaired, or nothing if it has resolved itself meanwhile."""
        if damage is None:
            return
        try:
            if not dry_run:
                self._repair(actor, damage)
        except UpstreamError as error:
            yield replace(damage, failure=str(error))
        except Conflict:
            return
        else:
            yield damage

    def _repair(self, actor: Actor, damage: Damage) -> None:
        user_id = damage.user_id

        def is_current() -> bool:
            # Rows and trail were read some time ago, and people act meanwhile.
            actions = self._read_trail(user_id)
            return self._find(user_id, self.identities.find(user_id), actions) == damage

        match damage.kind:
            case "half-deleted" | "erased-user-back":
                self.administration.delete(actor, user_id, only_if=is_current)
            case "half-blocked" | "block-lifted":
                self.administration.block(actor, user_id, damage.detail, only_if=is_current)
            case "not-indexed":
                self.index.update(user_id)
            case "no-row":
                entry = self.ledger.find(damage.detail)
                if entry is None or entry.owner != user_id:
                    raise Conflict("The user has been deleted in the meantime.")
                since = entry.since or datetime.now(UTC)
                row = Identity(user_id=user_id, acs_user_id=damage.detail, created_at=since)
                with suppress(RowExists), self.audit.action(actor, "restore", user_id):
                    self.identities.insert(row)
                self.index.update(user_id)

    def _read_trail(self, target: UserId | None = None) -> _LatestActions:
        # Among older events, the purge may have deleted the end of a block, and not yet the block.
        age = timedelta(days=self.retention_audit_days)
        query = AuditQuery(target=target, since=datetime.now(UTC) - age + CLOCK_TOLERANCE if age else None)
        actions = _LatestActions()
        outcomes: dict[str, AuditEvent] = {}
        for event in self.audit.all(query):  # the newest first, so outcomes before beginnings
            if event.outcome != "started" and event.action not in OUTCOME_ONLY:
                outcomes[event.action_id] = event
                continue
            outcome = outcomes.pop(event.action_id, None)
            if _took_effect(event, outcome):
                actions.add(event, outcome)
        return actions


def _took_effect(event: AuditEvent, outcome: AuditEvent | None) -> bool:
    """Whether an action took effect, given its beginning and its outcome.

    One that failed or was interrupted counts if it lets the user in: nobody is shut out on a guess.
    """
    if event.action in ("unblock", *REVIVING):
        return True
    if outcome is None:
        return False
    return outcome.outcome == "done" or outcome.detail.startswith(("blocked, ", "deleted, "))
