"""Users, sessions and events as JSON and CSV show them, to programs and people outside."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from trusted_service.models import AuditEvent, Identity, LedgerEntry, Session, UserId

USER_MEMBERS = (
    "tenantId",
    "objectId",
    "name",
    "username",
    "communicationUserId",
    "createdAt",
    "lastTokenAt",
    "blocked",
)
EVENT_MEMBERS = (
    "at",
    "action",
    "outcome",
    "actorKind",
    "actor",
    "actorName",
    "target",
    "detail",
    "requestId",
)


FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet run a cell, with the full-width forms that some take for the same.

https://owasp.org/www-community/attacks/CSV_Injection
"""
INNER_FORMULA = re.compile(rf"(;\s*)(?=[{re.escape(''.join(FORMULA_STARTS))}])")
"""Where the comma is for decimals, spreadsheets split lines at semicolons."""


def rfc3339(moment: datetime) -> str:
    """A time in UTC as `2026-01-31T23:59:59Z`, rounded down to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def user_json(identity: Identity) -> dict[str, Any]:
    """A user with the members of USER_MEMBERS, in their order."""
    last = identity.last_token_at
    values = (
        identity.user_id.tenant_id,
        identity.user_id.object_id,
        identity.name,
        identity.username,
        identity.acs_user_id,
        rfc3339(identity.created_at),
        None if last is None else rfc3339(last),
        identity.blocked,
    )
    return dict(zip(USER_MEMBERS, values, strict=True))


def unknown_user_json(user_id: UserId) -> dict[str, Any]:
    """A user without a row: nobody knows more of them than their ids."""
    values = (user_id.tenant_id, user_id.object_id, "", "", None, None, None, False)
    return dict(zip(USER_MEMBERS, values, strict=True))


def session_json(session: Session) -> dict[str, Any]:
    return {
        "createdAt": rfc3339(session.created_at),
        "seenAt": rfc3339(session.seen_at),
        "address": session.origin.address,
        "userAgent": session.origin.user_agent,
        "roles": list(session.user.roles),
    }


def ledger_json(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "communicationUserId": entry.acs_user_id,
        "since": None if entry.since is None else rfc3339(entry.since),
        "until": None if entry.until is None else rfc3339(entry.until),
        "reason": entry.reason,
    }


def event_json(event: AuditEvent) -> dict[str, Any]:
    """An event with the members of EVENT_MEMBERS, in their order."""
    target = None if event.target is None else str(event.target)
    values = (
        rfc3339(event.at),
        event.action,
        event.outcome,
        event.actor.kind,
        event.actor.key,
        event.actor.name,
        target,
        event.detail,
        event.request_id,
    )
    return dict(zip(EVENT_MEMBERS, values, strict=True))


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A CSV file line by line (RFC 4180), safe to open in a spreadsheet."""
    yield _csv_line(header)
    for row in rows:
        yield _csv_line(row)


def _csv_line(cells: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_cell(cell) for cell in cells])
    return line.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = INNER_FORMULA.sub(r"\1'", str(value))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
