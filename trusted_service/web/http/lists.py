"""Lists: the query of the list of users, signed cursors, and CSV files."""

import itertools
import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from flask import Response, request
from itsdangerous import BadData

from trusted_service.errors import InvalidRequest
from trusted_service.representation import csv_lines
from trusted_service.users.directory import Position, UserPage, UserQuery
from trusted_service.web.http.context import actor, services
from trusted_service.web.security.signing import serializer

QUERY = {"q": "text", "status": "status", "tenant": "tenant_id", "sort": "sort"}
"""The parameters of the list of users."""


def sign_cursor(place: str | None) -> str | None:
    return None if place is None else str(serializer(f"cursor {request.endpoint}").dumps(place))


def read_cursor() -> str:
    """Return the position, "" without a cursor. Raises InvalidRequest unless it was signed for this list."""
    cursor = request.args.get("cursor", "")
    try:
        return str(serializer(f"cursor {request.endpoint}").loads(cursor)) if cursor else ""
    except BadData as error:
        raise InvalidRequest("cursor is not valid.") from error


def read_user_query(*names: str) -> tuple[UserQuery, Position | None]:
    """Return the query and where its page begins, which a cursor contains. Raises InvalidRequest."""
    asked: dict[str, Any] = {QUERY[name]: request.args.get(name, "") for name in names}
    asked["text"] = asked["text"].strip()
    if asked.get("sort") != "name":
        asked.pop("sort", None)
    asked = {name: value for name, value in asked.items() if value}
    if asked.get("status") not in (None, "active", "blocked"):
        raise InvalidRequest("status must be active or blocked.")
    if not (continued := read_cursor()):
        if asked.get("tenant_id") not in services().settings.entra_allowed_tenants:
            asked.pop("tenant_id", None)
        return UserQuery(**asked), None
    try:
        members, place = json.loads(continued)
        query, position = UserQuery(**members), Position(**place)
    except (ValueError, TypeError) as error:
        raise InvalidRequest("cursor belongs to an older version.") from error
    if any(getattr(query, name) != value for name, value in asked.items()):
        raise InvalidRequest("cursor belongs to another query.")
    return query, position


def next_user_cursor(query: UserQuery, page: UserPage) -> str | None:
    return sign_cursor(json.dumps([asdict(query), asdict(page.next)]) if page.next else None)


def export_csv(
    name: str, header: Iterable[str], rows: Iterable[Iterable[object]], *, detail: str = ""
) -> Response:
    """Stream the rows as an audited file. If the first lines cannot be read, the response is an error."""
    audited = services().audit.action(actor(), "export", None, detail)
    with nullcontext() if request.method == "HEAD" else audited:
        lines = csv_lines(header, rows)
        chunks = iter(lambda: "".join(itertools.islice(lines, 200)), "")
        response = Response(itertools.chain([next(chunks, "")], chunks), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
