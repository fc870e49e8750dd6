"""Takes in mappings of users that another system made. Doing it again goes on where it ended.

Nothing that is here is overwritten: a user keeps the identity they have, and no identity gets a second user.
An identity is claimed in the ledger before a row may name it, so two imports at once cannot give it to two
users.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from trusted_service.administration import Administration
from trusted_service.audit import AuditTrail
from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.identity_history import IdentityHistory
from trusted_service.mapping_file import MappingRow
from trusted_service.models import Actor, Identity, find_resource
from trusted_service.resource_pin import ResourcePin
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import IdentityTaken
from trusted_service.storage.tables import SERVICE, RowExists
from trusted_service.user_index import UserIndex

THREADS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What became of a row, or in a dry run would: it is written, or was here, or is not taken."""

    row: MappingRow
    result: Literal["imported", "present", "conflict", "invalid"]
    detail: str = ""


class MappingImport:
    """Methods raise UpstreamError where the storage fails; what was written until then stays."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        history: IdentityHistory,
        index: UserIndex,
        pin: ResourcePin,
        administration: Administration,
        audit: AuditTrail,
    ) -> None:
        self._identities = identities
        self._history = history
        self._index = index
        self._pin = pin
        self._administration = administration
        self._audit = audit

    def run(
        self, actor: Actor, rows: Sequence[MappingRow], *, dry_run: bool, allow_other_resource: bool = False
    ) -> Iterator[Imported]:
        """Yield what became of each row, in the order of the file. Raises IndexMissing."""
        self._index.require()
        if not dry_run:
            self._history.record_missing(self._identities.all())
        resource = None if allow_other_resource else self._find_resource(rows)
        take = partial(self._take, actor, resource, dry_run=dry_run)
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(take, rows)

    def _find_resource(self, rows: Sequence[MappingRow]) -> str | None:
        """The resource that identities must belong to: the pinned one, else that of the first row."""
        pin = self._pin.find(fresh=True)
        if pin is not None:
            return pin.resource
        return next((find_resource(row.identity.acs_user_id or "") for row in rows if row.identity), None)

    def _take(self, actor: Actor, resource: str | None, row: MappingRow, *, dry_run: bool) -> Imported:
        identity = row.identity
        if identity is None:
            return Imported(row=row, result="invalid", detail=row.problem)
        if resource is not None and find_resource(identity.acs_user_id or "") not in (resource, None):
            detail = f"the identity belongs to another resource than {resource} (see --allow-other-resource)"
            return Imported(row=row, result="invalid", detail=detail)
        found = self._compare(row, identity)
        if found is not None:
            if found.result == "present" and not dry_run:
                self._index.update(identity.user_id)  # in case an earlier import died before that
            return found
        if not dry_run:
            try:
                self._write(actor, identity)
            except IdentityTaken as taken:
                return _taken(row, taken.entry.owner)
            except RowExists:
                # They signed in while we looked, or an earlier try of ours went through.
                found = self._compare(row, identity)
                if found is not None:
                    return found
                raise UpstreamUnavailable(SERVICE, "the row that was in the way is gone") from None
            if identity.blocked:
                # The row keeps them out already; a session or token from before it still has to end.
                self._administration.block(actor, identity.user_id)
        return Imported(row=row, result="imported")

    def _write(self, actor: Actor, identity: Identity) -> None:
        """Raises IdentityTaken, or RowExists where the user has a row."""
        acs_user_id, user_id = identity.acs_user_id, identity.user_id
        claimed = acs_user_id is not None and self._history.claim(user_id, acs_user_id, identity.created_at)
        try:
            with self._audit.action(actor, "import", user_id, acs_user_id or "blocked"):
                self._identities.insert_known(identity)
        except (RowExists, UpstreamError) as error:
            unknown = isinstance(error, UpstreamUnavailable) and error.outcome_unknown
            if claimed and acs_user_id and not unknown:
                row = self._identities.find(user_id)
                if row is None or row.acs_user_id != acs_user_id:
                    self._history.withdraw(acs_user_id)
            raise
        self._index.update(user_id)

    def _compare(self, row: MappingRow, identity: Identity) -> Imported | None:
        """What is there already, or None where nothing is in the way."""
        here = self._identities.find(identity.user_id)
        if here is not None:
            if (here.acs_user_id or "").lower() != (identity.acs_user_id or "").lower():
                detail = f"the user has {here.acs_user_id or 'a block and no identity'}"
            elif identity.blocked and not here.blocked:
                detail = "blocked in the file, and not here"
            else:
                return Imported(row=row, result="present")
            return Imported(row=row, result="conflict", detail=detail)
        entry = self._history.find(identity.acs_user_id or "")
        if entry is not None and entry.owner != identity.user_id:
            return _taken(row, entry.owner)
        return None


def _taken(row: MappingRow, owner: object) -> Imported:
    detail = f"the identity is that of {owner}" if owner else "the identity was erased here"
    return Imported(row=row, result="conflict", detail=detail)
