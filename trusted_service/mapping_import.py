"""Takes in mappings of users that another system made. Doing it again goes on where it ended.

Nothing that is here is overwritten: a user keeps the identity they have, and no identity gets a second
user. Each row that is written stands in the audit trail, like every other action.
"""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from trusted_service.administration import Administration
from trusted_service.audit import AuditTrail
from trusted_service.errors import UpstreamUnavailable
from trusted_service.indexer import Indexer
from trusted_service.mapping_file import MappingRow
from trusted_service.models import Actor, Identity
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.tables import SERVICE, RowExists
from trusted_service.storage.user_index import UserIndex

AT_ONCE, TOGETHER = 8, 400


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
        index: UserIndex,
        indexer: Indexer,
        administration: Administration,
        audit: AuditTrail,
    ) -> None:
        self._identities = identities
        self._index = index
        self._indexer = indexer
        self._administration = administration
        self._audit = audit

    def run(self, actor: Actor, rows: Iterable[MappingRow], *, dry_run: bool) -> Iterator[Imported]:
        """Yield what became of each row, in the order of the file."""
        self._indexer.finish()  # so that an identity which somebody has is found
        left = iter(rows)
        take = partial(self._take, actor, dry_run=dry_run)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while together := list(itertools.islice(left, TOGETHER)):
                yield from pool.map(take, together)
        if not dry_run:
            self._indexer.run()

    def _take(self, actor: Actor, row: MappingRow, *, dry_run: bool) -> Imported:
        identity = row.identity
        if identity is None:
            return Imported(row=row, result="invalid", detail=row.problem)
        found = self._compare(row, identity)
        if found is not None:
            return found
        if not dry_run:
            try:
                with self._audit.action(actor, "import", identity.user_id, identity.acs_user_id or "blocked"):
                    self._identities.insert_known(identity)
            except RowExists:
                # They came while we looked, or an earlier try of ours went through.
                found = self._compare(row, identity)
                if found is not None:
                    return found
                raise UpstreamUnavailable(SERVICE, "the row that was in the way is gone") from None
            if identity.blocked:
                # The row keeps them out already; a session or token from before it is still to be ended.
                self._administration.block(actor, identity.user_id)
        return Imported(row=row, result="imported")

    def _compare(self, row: MappingRow, identity: Identity) -> Imported | None:
        """What there is already, or None where nothing is in the way."""
        here = self._identities.find(identity.user_id)
        if here is not None:
            if here.acs_user_id != identity.acs_user_id:
                detail = f"the user has {here.acs_user_id or 'a block and no identity'}"
            elif identity.blocked and not here.blocked:
                detail = "blocked in the file, and not here"
            else:
                return Imported(row=row, result="present")
            return Imported(row=row, result="conflict", detail=detail)
        if identity.acs_user_id is None:
            return None
        for other in self._index.find_by_acs_user_id(identity.acs_user_id):
            owner = self._identities.find(other)
            if owner is not None and owner.acs_user_id == identity.acs_user_id:
                return Imported(row=row, result="conflict", detail=f"the identity is that of {other}")
        return None
