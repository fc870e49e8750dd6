"""Users, sessions and events as JSON and CSV."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from trusted_service.models import AuditEvent, Identity, LedgerEntry, Session, UserId, rfc3339

CELL_START = r"(^|[;|]\s*)"
"""Spreadsheets split lines at semicolons, for one, in countries where the comma is the decimal separator."""
FORMULA = r'(?=["\s]*[=+\-@\uff1d\uff0b\uff0d\uff20])'
"""Makes a spreadsheet run a cell, also full-width: https://owasp.org/www-community/attacks/CSV_Injection"""


def user_json(user: Identity | UserId) -> dict[str, Any]:
    """A user by their row, or by their id if there is none."""
    row, user_id = (user, user.user_id) if isinstance(user, Identity) else (None, user)
    return {
        "tenantId": user_id.tenant_id,
        "objectId": user_id.object_id,
        "name": row.name if row else "",
        "username": row.username if row else "",
        "communicationUserId": row and row.acs_user_id,
        "createdAt": row and rfc3339(row.created_at),
        "lastTokenAt": row and row.last_token_at and rfc3339(row.last_token_at),
        "blocked": bool(row and row.blocked),
    }


def session_json(session: Session) -> dict[str, Any]:
    """A session as its user exports it; pages show less."""
    return {
        "name": session.user.name,
        "username": session.user.username,
        "loginHint": session.login_hint,
        "createdAt": rfc3339(session.created_at),
        "seenAt": rfc3339(session.seen_at),
        "lastTokenAt": session.token_recorded_at and rfc3339(session.token_recorded_at),
        "address": session.address,
        "userAgent": session.user_agent,
        "roles": list(session.user.roles),
    }


def ledger_json(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "communicationUserId": entry.acs_user_id,
        "since": entry.since and rfc3339(entry.since),
        "until": entry.until and rfc3339(entry.until),
        "reason": entry.reason,
    }


def event_json(event: AuditEvent) -> dict[str, Any]:
    return {
        "at": rfc3339(event.at),
        "action": event.action,
        "outcome": event.outcome,
        "actorKind": event.actor.kind,
        "actor": event.actor.key,
        "target": event.target and str(event.target),
        "detail": event.detail,
        "requestId": event.request_id,
    }


class _Echo:
    """A file whose `write` returns the line, as `writerow` then does."""

    def write(self, line: str) -> str:
        return line


def csv_lines(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A CSV file line by line (RFC 4180), safe to open in a spreadsheet."""
    writer = csv.writer(_Echo())
    return (writer.writerow(map(_cell, row)) for row in itertools.chain([header], rows))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(CELL_START + FORMULA, r"\1'", re.sub(r"\s", " ", str(value)))
