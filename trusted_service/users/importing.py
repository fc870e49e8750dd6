"""Imports mappings of users from another system, from the export `users.csv`, or from a backup.

Nothing is overwritten: a user keeps their identity, and no identity gets a second user. An identity is
claimed in the ledger before a row names it, by other imports too. A repeated import resumes where it stopped.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from trusted_service.access.resource_pin import Pin, ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure.parallel import retry
from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.models import Actor, find_resource
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import IdentityTaken, Ledger
from trusted_service.storage.tables import RowExists
from trusted_service.storage.transactions import batches
from trusted_service.users.administration import Administration
from trusted_service.users.mapping_file import MappingRow, Result

THREADS = 8
OTHER_RESOURCE = "that of the settings"


@dataclass(frozen=True, slots=True)
class MappingImport:
    """Methods raise UpstreamError if the storage fails; what was imported before stays."""

    identities: IdentityTable
    ledger: Ledger
    index: UserIndex
    pin: ResourcePin
    administration: Administration
    audit: AuditTrail

    def run(
        self,
        actor: Actor,
        rows: Iterable[MappingRow],
        pin: Pin | None = None,
        *,
        dry_run: bool,
        allow_other_resource: bool,
    ) -> Iterator[MappingRow]:
        """Yield the result of each row, in the order of the file. Raises IndexMissing.

        `pin` is that of a backup: it counts if there is none here, and the settings lead to its resource.
        """
        self.index.require()
        if not dry_run:
            self.ledger.record_missing(self.identities.all())
        here, resources = self.pin.find(fresh=True), None
        if not allow_other_resource:
            resources = {here.resource if here else self._own_resource(rows)}
        if pin and here is None and (resources is None or pin.resource in resources):
            here = pin
            if not dry_run:
                self.pin.move(None, pin.resource, pin.former)
        if pin and here and resources:
            resources |= here.former
        action = partial(self._import, actor, resources, dry_run)
        with ThreadPoolExecutor(THREADS) as pool:
            for some in batches(rows):
                # Nobody should have to watch over a restoration.
                yield from pool.map(partial(retry, action) if pin else action, some)

    def _own_resource(self, rows: Iterable[MappingRow]) -> str:
        """The resource of the settings, if the file has identities: the first row would pin any other."""
        found = (
            self.administration.communication.find_own_resource() if any(row.identity for row in rows) else ""
        )
        return found or OTHER_RESOURCE

    def _import(self, actor: Actor, resources: set[str] | None, dry_run: bool, row: MappingRow) -> MappingRow:
        if row.result != "imported":
            return row
        if row.identity and resources and find_resource(row.acs_user_id) not in {*resources, None}:
            expected = ", ".join(sorted(resources))
            detail = f"the identity belongs to another resource than {expected} (see --allow-other-resource)"
            return replace(row, result="invalid", detail=detail)
        result, detail = self._compare(row)
        if result == "imported" and not dry_run:
            try:
                detail = self._write(actor, row)
            except (IdentityTaken, RowExists):
                # A sign-in or another import was first, or an earlier try, whose response was lost.
                result, detail = self._compare(row)
                if result == "imported":
                    raise UpstreamUnavailable("Table Storage", "a conflicting row is gone") from None
        if result == "present" and row.identity and not dry_run:
            # An earlier import may have been killed before that.
            self.index.update(row.identity.user_id)
            detail = _block(partial(self.administration.finish_block, row.identity.user_id))
        return replace(row, result=result, detail=detail)

    def _compare(self, row: MappingRow) -> tuple[Result, str]:
        """Compare with the user's row and the ledger; `imported` means that the mapping can be."""
        identity = row.identity
        here = self.identities.find(identity.user_id) if identity else None
        if here is None or identity is None:
            owners = {entry.acs_user_id: entry.owner for entry in row.entries}
            owners |= {identity.acs_user_id or "": identity.user_id} if identity else {}
            found = {acs_user_id: self.ledger.find(acs_user_id) for acs_user_id in owners}
            for acs_user_id, entry in found.items():
                if entry is not None and entry.owner != owners[acs_user_id]:
                    whose = f"is that of {entry.owner}" if entry.owner else "was erased here"
                    return "conflict", f"the identity {whose}"
            return ("imported" if identity or None in found.values() else "present"), ""
        if (here.acs_user_id or "").lower() != (identity.acs_user_id or "").lower():
            return "conflict", f"the user has {here.acs_user_id or 'a block and no identity'}"
        if identity.blocked and not here.blocked:
            return "conflict", "blocked in the file, and not here"
        return "present", ""

    def _write(self, actor: Actor, row: MappingRow) -> str:
        """Return what is left to be done. Raises IdentityTaken, or RowExists if the user has a row."""
        for entry in row.entries:
            self.ledger.restore(entry)
        if (identity := row.identity) is None:
            return ""
        acs_user_id, user_id, since = identity.acs_user_id, identity.user_id, row.since or identity.created_at
        claimed = acs_user_id is not None and self.ledger.claim(user_id, acs_user_id, since)
        try:
            with self.audit.action(actor, "import", user_id, "" if acs_user_id else "blocked"):
                self.identities.insert(identity)
        except (RowExists, UpstreamError) as error:
            unknown = isinstance(error, UpstreamError) and error.outcome_unknown
            if claimed and acs_user_id and not unknown:
                here = self.identities.find(user_id)
                if here is None or here.acs_user_id != acs_user_id:
                    self.ledger.withdraw(acs_user_id)
            raise
        self.index.update(user_id)
        if identity.blocked:
            return _block(partial(self.administration.block, actor, user_id, identity.block_reason))
        return ""


def _block(block: Callable[[], None]) -> str:
    """Block a user whom the row refuses already: sessions and tokens from before end. Return what is left."""
    try:
        block()
    except UpstreamError as error:
        if not error.done:
            raise
        return f"{error}; `users repair` finishes it"
    return ""
