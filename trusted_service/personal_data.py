"""Everything that is stored about one user or, as a backup, about all of them, as JSON.

The table `jobs` is read whole, because nothing leads from a user to the jobs about them. `userindex`, and the
rows under `sid-…` in `sessions`, only repeat others; `usage` is about nobody in particular.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from trusted_service.access.administrators import Administrators
from trusted_service.access.resource_pin import ResourcePin
from trusted_service.audit import AuditTrail
from trusted_service.azure.parallel import map_parallel
from trusted_service.jobs.models import Mention
from trusted_service.jobs.service import Jobs
from trusted_service.models import AuditEvent, Identity, LedgerEntry, UserId, rfc3339
from trusted_service.representation import event_json, ledger_json, session_json, user_json
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.sessions import SessionTable
from trusted_service.storage.transactions import batches
from trusted_service.users.backup_file import backup_json

MAX_EVENTS, MAX_JOB_ROWS = 3000, 2000
"""How much a request reads: one page after the other, a thousand rows each."""


@dataclass(frozen=True, slots=True)
class PersonalData:
    identities: IdentityTable
    sessions: SessionTable
    ledger: Ledger
    audit: AuditTrail
    jobs: Jobs
    administrators: Administrators
    pin: ResourcePin

    def export(self, user_id: UserId, *, limited: bool = False) -> dict[str, Any]:
        """Everything about the user; if limited to what a request can read, `complete` may be false."""
        mentions, complete = self.jobs.mentions(user_id, MAX_JOB_ROWS if limited else None)
        document = self._describe(user_id, mentions.get(user_id, ()), MAX_EVENTS if limited else None)
        return document | {"complete": complete and document["complete"]}

    def back_up(self, user_id: UserId) -> dict[str, Any]:
        """The same, from which a user who has a row can be restored."""
        identity, document = self.identities.find(user_id), self.export(user_id)
        if identity is None:
            return document
        return document | backup_json(self.pin.find(), identity, self.ledger.all_of(identity))

    def back_up_all(self) -> Iterator[dict[str, Any]]:
        """The same about everybody, and the ACS ids of erased users, in documents without other ids.

        The ledger is held in memory, and of the rest some users at a time.
        """
        entries = defaultdict[UserId | None, list[LedgerEntry]](list)
        for entry in self.ledger.all():
            entries[entry.owner].append(entry)
        mentions, _ = self.jobs.mentions(None, None)

        def describe(user_id: UserId, identity: Identity | None) -> dict[str, Any]:
            document = self._describe(user_id, mentions.get(user_id, ()))
            return document | backup_json(self.pin.find(), identity, entries.pop(user_id, []))

        for some in batches(self.identities.all()):
            yield from map_parallel(lambda identity: describe(identity.user_id, identity), some)
        for entry in entries.pop(None, []):
            user = user_json(UserId("", "")) | {"communicationUserId": entry.acs_user_id}
            record = backup_json(self.pin.find(), None, [entry])
            yield {"user": user, "identities": [ledger_json(entry)], **record}
        for owner in filter(None, list(entries)):
            yield describe(owner, self.identities.find(owner))

    def _describe(
        self, user_id: UserId, mentions: Sequence[Mention], limit: int | None = None
    ) -> dict[str, Any]:
        """Everything, given the jobs about the user, with up to `limit` events."""
        identity = self.identities.find(user_id)
        entries = self.ledger.all_of(identity) if identity else []
        events = self.audit.about_or_by(user_id)
        seen_at = self.administrators.find_seen_at(user_id)
        return {
            "user": user_json(identity or user_id),
            "blockReason": identity.block_reason if identity else "",
            "administratorSeenAt": seen_at and rfc3339(seen_at),
            "identities": [ledger_json(entry) for entry in entries],
            "sessions": [session_json(session) for session in self.sessions.list_by_user(user_id)],
            "audit": [_event_json(event, user_id) for event in islice(events, limit)],
            "jobs": [_mention_json(mention) for mention in mentions],
            "complete": next(events, None) is None,
        }


def _event_json(event: AuditEvent, user_id: UserId) -> dict[str, Any]:
    """An event without anybody else, whose data that is: `actorKind` says what they are."""
    document, own = event_json(event), str(user_id)
    others = {name: None for name in ("actor", "target") if document[name] != own}
    return document | others


def _mention_json(mention: Mention) -> dict[str, Any]:
    """The user's row in a job or, if they started it, what they did."""
    job, item = mention
    return {
        "action": job.action,
        "state": job.state,
        "createdAt": rfc3339(job.created_at),
        "endedAt": job.ended_at and rfc3339(job.ended_at),
        "startedByYou": item is None,
        "reason": job.reason if item else "",
        "check": item and item.check,
        "result": item and item.state,
        "detail": item.detail if item else "",
    }
