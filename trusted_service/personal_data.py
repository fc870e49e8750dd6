"""Everything that is stored about one user or, as a backup, about all of them, as JSON.

The table `jobs` is read whole, because nothing leads from a user to the jobs about them. `userindex`, and the
rows under `sid-…` in `sessions`, only repeat others; `usage` is about nobody in particular.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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

    def export(self, user_id: UserId, *, limited: bool = False, is_backup: bool = False) -> dict[str, Any]:
        """Everything about the user; if limited to what a request can read, `complete` may be false."""
        mentions, complete = self.jobs.mentions(user_id, MAX_JOB_ROWS if limited else None)
        user, limit = self.identities.find(user_id) or user_id, MAX_EVENTS if limited else None
        entries = self.ledger.owned_by(user_id) if is_backup and user is user_id else ()
        document = self._describe(user, mentions, entries, limit=limit, is_backup=is_backup)
        return document | {"complete": complete and document["complete"]}

    def back_up_all(self) -> Iterator[dict[str, Any]]:
        """Everything about everybody, and the ACS ids of erased users, in documents without other ids.

        The users' ids are held in memory, and of the rest some users at a time.
        """
        describe = partial(self._describe, mentions=self.jobs.mentions(None, None)[0], is_backup=True)
        seen, lost = set[UserId](), defaultdict[UserId, list[LedgerEntry]](list)
        for some in batches(self.identities.all()):
            seen.update(row.user_id for row in some)
            yield from map_parallel(describe, some)
        for entry in self.ledger.all():
            if entry.owner is None:
                user = user_json(UserId("", "")) | {"communicationUserId": entry.acs_user_id}
                record = backup_json(self.pin.find(), None, [entry])
                yield {"user": user, "identities": [ledger_json(entry)], **record}
            elif entry.owner not in seen:
                lost[entry.owner].append(entry)
        for owner, entries in lost.items():
            yield describe(self.identities.find(owner) or owner, entries=entries)

    def _describe(
        self,
        user: Identity | UserId,
        mentions: Mapping[UserId, Sequence[Mention]],
        entries: Sequence[LedgerEntry] = (),
        *,
        limit: int | None = None,
        is_backup: bool = False,
    ) -> dict[str, Any]:
        """Everything about a user by their row or, without one, by id and `entries`, with `limit` events."""
        row, user_id = (user, user.user_id) if isinstance(user, Identity) else (None, user)
        if row:  # the ledger after the row, so that it has what the row names
            entries = self.ledger.all_of(row)
        has_record = is_backup and (row or entries)
        events = self.audit.about_or_by(user_id)
        seen_at = self.administrators.find_seen_at(user_id)
        return {
            "user": user_json(user),
            "blockReason": row.block_reason if row else "",
            "administratorSeenAt": seen_at and rfc3339(seen_at),
            "identities": [ledger_json(entry) for entry in entries],
            "sessions": [session_json(session) for session in self.sessions.list_by_user(user_id)],
            "audit": [_event_json(event, user_id) for event in islice(events, limit)],
            "jobs": [_mention_json(mention) for mention in mentions.get(user_id, ())],
            "complete": next(events, None) is None,
            **(backup_json(self.pin.find(), row, entries) if has_record else {}),
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
