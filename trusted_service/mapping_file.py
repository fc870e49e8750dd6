"""Files of mappings that people bring from another system, or from the export of this one.

CSV with a header: `objectId` and `communicationUserId`, `tenantId` where more than one is allowed, and
the other members of a user (`users.csv`) if they are known. Every row is checked before any is used.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trusted_service.csv_file import UnreadableList, cell, find_column, read_rows
from trusted_service.models import Identity, UserId, display_text
from trusted_service.representation import FORMULA_STARTS

GUID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
RAW_ID = re.compile(rf"8:(?:gcch-|dod-)?acs:({GUID})_{GUID}")
"""https://learn.microsoft.com/azure/communication-services/concepts/identifiers#raw-id-representation"""
NAMES = {
    "tenantId": ("tenantid", "tid"),
    "objectId": ("objectid", "oid", "azureadobjectid", "entraobjectid", "aadobjectid"),
    "communicationUserId": ("communicationuserid", "acsuserid", "communicationservicesuserid"),
    "name": ("name", "displayname"),
    "username": ("username", "userprincipalname", "upn", "preferredusername"),
    "createdAt": ("createdat",),
    "lastTokenAt": ("lasttokenat",),
    "blocked": ("blocked",),
}
"""What a column may be called, in small letters without marks between."""
REQUIRED = ("objectId", "communicationUserId")


class _Unusable(Exception):
    """A row that is not to be used; the sentence says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MappingRow:
    """A row of the file; `problem` says why it is not to be used, or is empty.

    `line` is the line of the file, counted from 1; `user` and `acs_user_id` are as given, for people.
    """

    line: int
    user: str
    acs_user_id: str
    identity: Identity | None
    problem: str = ""


def read_mappings(data: bytes, tenants: Sequence[str], now: datetime) -> list[MappingRow]:
    """Read and check the file; `now` stands where it does not say since when a user is known.

    Raises UnreadableList for what is no CSV in UTF-8, has no header of these names, or no row.
    """
    rows = read_rows(data)
    line, header = next(rows, (0, []))
    if not header:
        raise UnreadableList("empty")
    columns = {name: find_column(header, names) for name, names in NAMES.items()}
    if any(columns[name] is None for name in REQUIRED):
        raise UnreadableList("column", line)
    read = [
        _row(line, {name: cell(cells, columns[name]) for name in NAMES}, tenants, now) for line, cells in rows
    ]
    if not read:
        raise UnreadableList("empty")
    return _without_repeats(read)


def _row(line: int, cells: dict[str, str], tenants: Sequence[str], now: datetime) -> MappingRow:
    user = "/".join(part for part in (cells["tenantId"], cells["objectId"]) if part)
    problem, identity = "", None
    try:
        identity = _identity(cells, tenants, now)
        user = str(identity.user_id)
    except _Unusable as error:
        problem = str(error)
    return MappingRow(
        line=line,
        user=display_text(user),
        acs_user_id=display_text(cells["communicationUserId"]),
        identity=identity,
        problem=problem,
    )


def _identity(cells: dict[str, str], tenants: Sequence[str], now: datetime) -> Identity:
    """Raises _Unusable."""
    if not cells["tenantId"] and len(tenants) != 1:
        raise _Unusable("tenantId is missing, and several tenants are allowed")
    try:
        user_id = UserId.parse(cells["tenantId"] or tenants[0], cells["objectId"])
    except ValueError:
        raise _Unusable("tenantId and objectId must be GUIDs") from None
    if user_id.tenant_id not in tenants:
        raise _Unusable("this tenant is not allowed here (ENTRA_ALLOWED_TENANTS)")
    blocked = _flag(cells["blocked"])
    acs_user_id = cells["communicationUserId"]
    if not acs_user_id and not blocked:
        raise _Unusable("communicationUserId is missing")
    if acs_user_id and not RAW_ID.fullmatch(acs_user_id):
        raise _Unusable("communicationUserId must be 8:acs:<GUID>_<GUID>")
    return Identity(
        user_id=user_id,
        name=display_text(_plain(cells["name"])),
        username=display_text(_plain(cells["username"])),
        acs_user_id=acs_user_id or None,
        created_at=_time("createdAt", cells["createdAt"]) or now,
        last_token_at=_time("lastTokenAt", cells["lastTokenAt"]),
        blocked=blocked,
        version="",
    )


def _time(name: str, text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
        if moment is None:
            return None
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Unusable(f"{name} must be a time such as 2026-01-31T23:59:59Z") from None
    if not 1970 <= moment.year <= 2999:
        raise _Unusable(f"{name} is no time at which there were such users")
    return moment


def _flag(text: str) -> bool:
    match text.casefold():
        case "" | "false" | "0" | "no":
            return False
        case "true" | "1" | "yes":
            return True
    raise _Unusable("blocked must be true or false")


def _plain(text: str) -> str:
    # Our own export put this before what a spreadsheet would run.
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text


def _without_repeats(rows: list[MappingRow]) -> list[MappingRow]:
    """The same, with a problem where two rows cannot both be right; of equal rows the first is good."""
    users: dict[UserId, set[str]] = {}
    owners: dict[str, set[UserId]] = {}
    for row in rows:
        if row.identity is not None:
            users.setdefault(row.identity.user_id, set()).add(row.acs_user_id.lower())
            if row.acs_user_id:
                owners.setdefault(row.acs_user_id.lower(), set()).add(row.identity.user_id)
    seen: set[UserId] = set()
    return [_checked(row, users, owners, seen) for row in rows]


def _checked(
    row: MappingRow, users: dict[UserId, set[str]], owners: dict[str, set[UserId]], seen: set[UserId]
) -> MappingRow:
    if row.identity is None:
        return row
    user_id = row.identity.user_id
    problem = ""
    if len(users[user_id]) > 1:
        problem = "the file has this user with different identities"
    elif row.acs_user_id and len(owners[row.acs_user_id.lower()]) > 1:
        problem = "the file has this identity for different users"
    elif user_id in seen:
        problem = "the file has this row already"
    seen.add(user_id)
    return replace(row, identity=None, problem=problem) if problem else row
