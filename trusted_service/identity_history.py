"""Which identities a user has and had.

An identity that stops being current is recorded before the mapping names another one, so a crash in between
forgets nobody's identity.
"""

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from trusted_service.models import Identity, LedgerEntry, Reason, UserId, find_resource
from trusted_service.retry import retry_each
from trusted_service.storage.ledger import IdentityTaken, LedgerTable
from trusted_service.storage.tables import RowChanged

log = structlog.get_logger(__name__)

THREADS = 8
TOKEN_LIFE = timedelta(hours=24, minutes=5)
"""How long after an identity's last use one of its tokens may still be good; clocks differ a little."""


class IdentityHistory:
    """Methods raise UpstreamError where the storage fails."""

    def __init__(self, ledger: LedgerTable) -> None:
        self._ledger = ledger

    def find(self, acs_user_id: str) -> LedgerEntry | None:
        """Whose identity this is or was, regardless of letter case."""
        return self._ledger.find(acs_user_id) if find_resource(acs_user_id) else None

    def all(self) -> Iterator[LedgerEntry]:
        """Every identity that was ever issued here, in no order that means anything."""
        return self._ledger.all()

    def claim(self, user_id: UserId, acs_user_id: str, since: datetime) -> bool:
        """Make an identity from outside the user's; False where it is already.

        Raises IdentityTaken where it is, or was, somebody else's.
        """
        return self._ledger.claim(user_id, acs_user_id, since)

    def withdraw(self, acs_user_id: str) -> None:
        """Undo a claim that no row has come to name."""
        self._ledger.withdraw(acs_user_id)

    def record(self, identity: Identity) -> None:
        """Record whose the row's identity is. One that belongs to somebody else is in the log."""
        acs_user_id, since = identity.acs_user_id or "", identity.acs_user_since
        if find_resource(acs_user_id) is None:
            return
        try:
            self._ledger.claim(identity.user_id, acs_user_id, since)
        except IdentityTaken as taken:
            log.error("identity_taken", user=str(identity.user_id), acs_user_id=taken.entry.acs_user_id)
        else:
            if identity.switched_at is not None:
                entry = LedgerEntry(acs_user_id=acs_user_id, owner=identity.user_id, since=since)
                with contextlib.suppress(RowChanged):
                    self._list(entry)

    def record_missing(self, identities: Iterable[Identity]) -> None:
        """Record the identities that no entry is about. Holds the ids of all entries in memory."""
        known = {entry.acs_user_id.lower() for entry in self._ledger.all()}
        missing = (one for one in identities if (one.acs_user_id or "").lower() not in known)
        with ThreadPoolExecutor(THREADS) as pool:
            retry_each(pool, self.record, missing)

    def end(self, identity: Identity, reason: Reason) -> None:
        """Record that the current identity of the row is about to be a former one.

        Raises RowChanged where its entry changes at the same moment.
        """
        if find_resource(identity.acs_user_id or "") is None:
            return
        known = self.find(identity.acs_user_id or "")
        if known is None:
            self.record(identity)
            known = self.find(identity.acs_user_id or "")
        if known is not None and known.owner == identity.user_id:
            ended = replace(known, until=datetime.now(UTC), reason=reason)
            self._ledger.replace(ended)
            self._list(ended)

    def reopen(self, entry: LedgerEntry) -> None:
        """Record that a former identity is its owner's current one again. Raises RowChanged."""
        current = replace(entry, until=None, reason=None)
        self._ledger.replace(current)
        self._list(current)

    def all_of(self, identity: Identity) -> list[LedgerEntry]:
        """The current identity, if there is one, and the former ones."""
        acs_user_id, since = identity.acs_user_id, identity.acs_user_since
        if acs_user_id is None:
            return self.former(identity)
        current = LedgerEntry(acs_user_id=acs_user_id, owner=identity.user_id, since=since)
        return [current, *self.former(identity)]

    def former(self, identity: Identity) -> list[LedgerEntry]:
        """The identities that the user has had beside the one of the row, the last one first."""
        entries = self._ledger.list_by_owner(identity.user_id)
        former = [entry for entry in entries if entry.acs_user_id != identity.acs_user_id]
        return sorted(former, key=_end, reverse=True)

    def erase(self, identity: Identity) -> None:
        """Keep nothing of the user's identities but their ids, which nobody can claim from then on."""
        for entry in self.all_of(identity):
            if find_resource(entry.acs_user_id) is None:
                continue
            self._ledger.erase(identity.user_id, entry.acs_user_id)
            self._ledger.delete_by_owner(identity.user_id, entry.acs_user_id)

    def _list(self, entry: LedgerEntry) -> None:
        """Record the identity among those of its owner. Raises RowChanged where it was erased meanwhile."""
        self._ledger.put_by_owner(entry)
        known = self._ledger.find(entry.acs_user_id)
        if entry.owner is not None and (known is None or known.owner != entry.owner):
            self._ledger.delete_by_owner(entry.owner, entry.acs_user_id)
            raise RowChanged


def may_have_tokens(identity: Identity, entry: LedgerEntry) -> bool:
    """Whether a token of this identity of the user, current or former, may still be good."""
    last_used = identity.last_token_at if entry.acs_user_id == identity.acs_user_id else _end(entry)
    return last_used is not None and datetime.now(UTC) - last_used < TOKEN_LIFE


def _end(entry: LedgerEntry) -> datetime:
    """An entry without an end belongs to an identity that is current, or was a moment ago."""
    return entry.until or datetime.now(UTC)
