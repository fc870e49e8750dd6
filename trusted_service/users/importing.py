"""Imports mappings of users from another system, from the export `users.csv`, or from a backup.

Nothing is overwritten: a user keeps their identity, and no identity gets a second user. An identity is
claimed in the ledger before a row names it, by other imports too. A repeated import resumes where it stopped.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from trusted_service.access.resource_pin import Pin, ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure.parallel import map_parallel, retry
from trusted_service.errors import ChangedTooOften, UpstreamError
from trusted_service.models import Actor, Identity, find_resource
from trusted_service.storage.attempts import attempts
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import IdentityTaken, Ledger
from trusted_service.storage.tables import RowChanged, RowExists
from trusted_service.storage.transactions import batches
from trusted_service.users.administration import Administration
from trusted_service.users.mapping_file import MappingRow, Result


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
        """Yield the result of each row, in the order of the file. Raises IndexMissing and Conflict.

        `pin` is that of a backup: it counts if there is none here, and its resource is not refused.
        """
        self.index.require()
        if not dry_run:
            self.ledger.record_missing(self.identities.all())
        here, resources = self.pin.find(fresh=True), None
        find_own = self.administration.communication.find_own_resource
        if not allow_other_resource:
            # The first row would pin any other resource; without identities none is pinned.
            own = here.resource if here else any(row.identity for row in rows) and find_own()
            resources = {own or "that of the settings"}
        if pin and here is None and (resources is None or pin.resource in resources):
            here = pin
            if not dry_run:
                self.pin.move(None, pin.resource, pin.former)
        if pin and here and resources:
            resources |= here.former
        action = partial(self._import, actor, resources, dry_run)
        for some in batches(rows):
            # Nobody should have to watch over a restoration.
            yield from map_parallel(partial(retry, action) if pin else action, some)

    def _import(self, actor: Actor, resources: set[str] | None, dry_run: bool, row: MappingRow) -> MappingRow:
        if row.result != "imported":
            return row
        if row.identity and resources and find_resource(row.acs_user_id) not in {*resources, None}:
            expected = ", ".join(sorted(resources))
            detail = f"the identity belongs to another resource than {expected} (see --allow-other-resource)"
            return replace(row, result="invalid", detail=detail)
        for _ in attempts():
            result, detail = self._compare(row)
            # Unless a sign-in, an erasure or another import is first, or an earlier try without a response.
            with suppress(IdentityTaken, RowChanged, RowExists):
                if result != "conflict" and not dry_run:
                    detail = self._write(actor, row, result) or detail
                return replace(row, result=result, detail=detail)
        raise ChangedTooOften

    def _compare(self, row: MappingRow) -> tuple[Result, str]:
        """Compare with the user's row and the ledger; `imported` means that the mapping can be."""
        identity = row.identity
        here = self.identities.find(identity.user_id) if identity else None
        if here and identity:
            if (here.acs_user_id or "").lower() != (identity.acs_user_id or "").lower():
                return "conflict", f"the user has {here.acs_user_id or 'a block and no identity'}"
            if identity.blocked and not here.blocked:
                return "conflict", "blocked in the file, and not here"
        owners = {entry.acs_user_id: entry.owner for entry in row.entries}
        if identity and identity.acs_user_id and here is None:
            owners[identity.acs_user_id] = identity.user_id
        found = {acs_user_id: self.ledger.find(acs_user_id) for acs_user_id in owners}
        for acs_user_id, entry in found.items():
            if entry is not None and entry.owner != owners[acs_user_id]:
                whose = f"is that of {entry.owner}" if entry.owner else "was erased here"
                return "conflict", f"the identity {whose}"
        is_missing = None in found.values()
        if here:
            return "present", "the ledger lacked identities" if is_missing else ""
        return ("imported" if identity or is_missing else "present"), ""

    def _write(self, actor: Actor, row: MappingRow, result: Result) -> str:
        """Return what is left to be done. Raises IdentityTaken, RowChanged or RowExists."""
        identity, since = row.identity, {entry.acs_user_id: entry.since for entry in row.entries}
        for entry in row.entries:
            if identity is None or entry.acs_user_id != identity.acs_user_id:
                self.ledger.restore(entry)
        if identity is None:
            return ""
        if result == "imported":
            self._insert(actor, identity, since.get(identity.acs_user_id or "") or identity.created_at)
        # An earlier import may have been killed before that.
        self.index.update(identity.user_id)
        try:
            if result == "present":
                self.administration.finish_block(identity.user_id)
            elif identity.blocked:  # the row refuses them already: sessions and tokens from before end
                self.administration.block(actor, identity.user_id, identity.block_reason)
        except UpstreamError as error:
            if not error.done:
                raise
            return f"{error}; `users repair` finishes it"
        return ""

    def _insert(self, actor: Actor, identity: Identity, since: datetime) -> None:
        """Claim the identity, then add the row. Raises IdentityTaken, or RowExists if the user has one."""
        acs_user_id, user_id = identity.acs_user_id, identity.user_id
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
