"""Imports mappings of users from another system, or from the export `users.csv`.

Nothing is overwritten: a user keeps their identity, and no identity gets a second user. An identity is
claimed in the ledger before a row names it, by other imports too. A repeated import resumes where it stopped.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from trusted_service.access.resource_pin import ResourcePin
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.errors import UpstreamError, UpstreamUnavailable
from trusted_service.models import Actor, Identity, UserId, find_resource
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import IdentityTaken, Ledger
from trusted_service.storage.tables import RowExists, find_utc
from trusted_service.texts import display_text
from trusted_service.users.administration import Administration
from trusted_service.users.csv_file import GUID, OBJECT_ID, TENANT_ID, UnreadableFile, read_table

RAW_ID = re.compile(rf"8:(?:gcch-|dod-)?acs:{GUID}_{GUID}")
"""https://learn.microsoft.com/azure/communication-services/concepts/identifiers#raw-id-representation"""
NAMES = {
    "tenantId": (TENANT_ID,),
    "objectId": (OBJECT_ID,),
    "communicationUserId": ("communicationuserid acsuserid communicationservicesuserid",),
    "name": ("name", "displayname"),
    "username": ("username", "userprincipalname", "upn", "preferredusername"),
    "createdAt": ("createdat",),
    "lastTokenAt": ("lasttokenat",),
    "blocked": ("blocked",),
    "status": ("status",),
}
FLAGS = dict.fromkeys(("", "false", "f", "0", "no", "falsch", "faux"), False)
FLAGS |= dict.fromkeys(("true", "t", "1", "yes", "wahr", "vrai"), True)
"""Spreadsheets translate them."""
THREADS, CLOCK_TOLERANCE = 8, timedelta(minutes=1)

OTHER_RESOURCE = "that of the settings"
SHIFTED = "the row has not as many cells as the header, perhaps because of an unquoted comma"

Result = Literal["imported", "present", "conflict", "invalid", "skipped"]


@dataclass(frozen=True, slots=True)
class MappingRow:
    """A row of the file with its result. `identity` is None where it is invalid; the ids are for display."""

    line: int
    user: str
    acs_user_id: str
    identity: Identity | None = None
    result: Result = "imported"
    detail: str = ""


def read_mappings(data: bytes, tenants: Sequence[str], now: datetime) -> list[MappingRow]:
    """Read and check a CSV file; a user without `createdAt` is created `now`. Raises UnreadableFile."""
    rows = []
    for line, cells in read_table(data, NAMES, ["objectId", "communicationUserId"]):
        if isinstance(cells, str):
            rows.append(MappingRow(line, "", "", result="invalid", detail=f"{SHIFTED}: {cells}"))
            continue
        user = "/".join(filter(None, (cells["tenantId"], cells["objectId"])))
        row = MappingRow(line, display_text(user), display_text(cells["communicationUserId"]))
        if cells["status"] == "archive-only":
            rows.append(replace(row, result="skipped", detail="an identity of the past (archive-only)"))
            continue
        try:
            identity = _read_identity(cells, tenants, now)
            rows.append(replace(row, identity=identity, user=str(identity.user_id)))
        except ValueError as error:
            rows.append(replace(row, result="invalid", detail=str(error)))
    if not rows:
        raise UnreadableFile("empty")
    return list(_check_repeats(rows))


def _read_identity(cells: Mapping[str, str], tenants: Sequence[str], now: datetime) -> Identity:
    """Raises ValueError, whose text is for the operator."""
    tenant_id, acs_user_id = cells["tenantId"], cells["communicationUserId"]
    acs_user_id = acs_user_id if "acs:" in acs_user_id else acs_user_id.lower()
    if not tenant_id and len(tenants) != 1:
        raise ValueError("tenantId is missing, and several tenants are allowed")
    try:
        user_id = UserId.parse(tenant_id or tenants[0], cells["objectId"])
    except ValueError:
        raise ValueError("tenantId and objectId must be GUIDs") from None
    if user_id.tenant_id not in tenants:
        raise ValueError("this tenant is not allowed here (ENTRA_ALLOWED_TENANTS)")
    blocked = FLAGS.get(cells["blocked"].casefold())
    if blocked is None:
        raise ValueError("blocked must be true or false")
    if not acs_user_id and not blocked:
        raise ValueError("communicationUserId is missing")
    if acs_user_id and not RAW_ID.fullmatch(acs_user_id):
        raise ValueError("communicationUserId must be 8:acs:<GUID>_<GUID>")
    return Identity(
        user_id=user_id,
        name=display_text(cells["name"]),
        username=display_text(cells["username"]),
        acs_user_id=acs_user_id or None,
        created_at=_read_time("createdAt", cells, now) or now,
        last_token_at=_read_time("lastTokenAt", cells, now),
        blocked=blocked,
    )


def _read_time(name: str, cells: Mapping[str, str], now: datetime) -> datetime | None:
    try:
        time = find_utc(cells[name])
    except (ValueError, OverflowError):
        raise ValueError(f"{name} must be a time such as 2026-01-31T23:59:59Z") from None
    if time and (time.year < 1970 or time > now + CLOCK_TOLERANCE):
        raise ValueError(f"{name} must be between 1970 and now")
    return time


def _check_repeats(rows: Sequence[MappingRow]) -> Iterator[MappingRow]:
    """The rows, with a problem where two contradict each other, or repeat one another from the second on."""
    pairs = {(row.user, row.acs_user_id.lower()) for row in rows if row.identity}
    identities_of = Counter(user for user, _ in pairs)
    users_of = Counter(acs_user_id for _, acs_user_id in pairs if acs_user_id)
    seen = set[str]()
    for row in rows:
        problem = ""
        if identities_of[row.user] > 1:
            problem = "the file has this user with different identities"
        elif users_of[row.acs_user_id.lower()] > 1:
            problem = "the file has this identity for different users"
        elif row.user in seen:
            problem = "the file has this row already"
        if row.identity:
            seen.add(row.user)
            row = replace(row, identity=None, result="invalid", detail=problem) if problem else row
        yield row


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
        self, actor: Actor, rows: Sequence[MappingRow], *, dry_run: bool, allow_other_resource: bool
    ) -> Iterator[MappingRow]:
        """Yield the result of each row, in the order of the file. Raises IndexMissing."""
        self.index.require()
        if not dry_run:
            self.ledger.record_missing(self.identities.all())
        resource = None
        if not allow_other_resource:
            pin = self.pin.find(fresh=True)
            resource = pin.resource if pin else self._own_resource(rows)
        with ThreadPoolExecutor(THREADS) as pool:
            yield from pool.map(partial(self._import, actor, resource, dry_run), rows)

    def _own_resource(self, rows: Sequence[MappingRow]) -> str:
        """The resource of the settings, if the file has identities: the first row would pin any other."""
        found = (
            self.administration.communication.find_own_resource() if any(row.identity for row in rows) else ""
        )
        return found or OTHER_RESOURCE

    def _import(self, actor: Actor, resource: str | None, dry_run: bool, row: MappingRow) -> MappingRow:
        if (identity := row.identity) is None:
            return row
        if resource is not None and find_resource(row.acs_user_id) not in (resource, None):
            detail = f"the identity belongs to another resource than {resource} (see --allow-other-resource)"
            return replace(row, result="invalid", detail=detail)
        result, detail = self._compare(identity)
        if result == "imported" and not dry_run:
            try:
                self._write(actor, identity)
            except (IdentityTaken, RowExists):
                # A sign-in or another import was first, or an earlier try, whose response was lost.
                result, detail = self._compare(identity)
                if result == "imported":
                    raise UpstreamUnavailable("Table Storage", "a conflicting row is gone") from None
        if result == "present" and not dry_run:
            self.index.update(identity.user_id)  # an earlier import may have been killed before that
        return replace(row, result=result, detail=detail)

    def _compare(self, identity: Identity) -> tuple[Result, str]:
        """Compare with the user's row and the ledger; `imported` means that the mapping can be."""
        here, acs_user_id = self.identities.find(identity.user_id), identity.acs_user_id or ""
        if here is None:
            entry = self.ledger.find(acs_user_id)
            if entry is None or entry.owner == identity.user_id:
                return "imported", ""
            found = f"is that of {entry.owner}" if entry.owner else "was erased here"
            return "conflict", f"the identity {found}"
        if (here.acs_user_id or "").lower() != acs_user_id.lower():
            return "conflict", f"the user has {here.acs_user_id or 'a block and no identity'}"
        if identity.blocked and not here.blocked:
            return "conflict", "blocked in the file, and not here"
        return "present", ""

    def _write(self, actor: Actor, identity: Identity) -> None:
        """Raises IdentityTaken, or RowExists if the user has a row."""
        acs_user_id, user_id = identity.acs_user_id, identity.user_id
        claimed = acs_user_id is not None and self.ledger.claim(user_id, acs_user_id, identity.created_at)
        try:
            with self.audit.action(actor, "import", user_id, "" if acs_user_id else "blocked"):
                self.identities.insert(identity)
        except (RowExists, UpstreamError) as error:
            unknown = isinstance(error, UpstreamError) and error.outcome_unknown
            if claimed and acs_user_id and not unknown:
                row = self.identities.find(user_id)
                if row is None or row.acs_user_id != acs_user_id:
                    self.ledger.withdraw(acs_user_id)
            raise
        self.index.update(user_id)
        if identity.blocked:
            # The row refuses them already; their sessions and tokens from before still have to end.
            self.administration.block(actor, user_id)
