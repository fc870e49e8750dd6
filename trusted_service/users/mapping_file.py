"""Reads mappings of users, as CSV, from another system or from the export `users.csv`."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from trusted_service.models import Identity, LedgerEntry, UserId
from trusted_service.storage.tables import find_utc
from trusted_service.texts import display_text
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
CLOCK_TOLERANCE = timedelta(minutes=1)
SHIFTED = "the row has not as many cells as the header, perhaps because of an unquoted comma"


Result = Literal["imported", "present", "conflict", "invalid", "skipped"]


@dataclass(frozen=True, slots=True)
class MappingRow:
    """A row of the file with its result. `identity` is None where it is invalid; the ids are for display.

    A backup has more: the user's `entries` of the ledger and, where nobody has a row, those alone.
    """

    line: int
    user: str
    acs_user_id: str
    identity: Identity | None = None
    result: Result = "imported"
    detail: str = ""
    entries: tuple[LedgerEntry, ...] = ()


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
