"""Lists: the query of the list of users, encrypted cursors, and CSV files."""

import itertools
import json
import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from cryptography.fernet import InvalidToken
from flask import Response, request

from trusted_service.errors import InvalidRequest
from trusted_service.representation import csv_lines
from trusted_service.users.directory import Position, UserPage, UserQuery, search_text
from trusted_service.web.http.context import actor, as_request, services
from trusted_service.web.security.signing import decrypt, encrypt

QUERY = {"q": "text", "status": "status", "tenant": "tenant_id", "sort": "sort"}
"""The parameters of the list of users."""
BOM = "\ufeff"
"""By which Excel recognises UTF-8."""
CHUNK = 200
"""The lines of a file that are sent at once."""


def sign_cursor(place: str | None) -> str | None:
    """Encrypt the place, which can hold names, for the address of the next page of this list."""
    return None if place is None else encrypt(f"cursor {request.endpoint}", place)


def read_cursor() -> str:
    """Return the position, "" without a cursor. Raises InvalidRequest unless it was made for this list."""
    cursor = request.args.get("cursor", "")
    try:
        return decrypt(f"cursor {request.endpoint}", cursor)[0] if cursor else ""
    except InvalidToken as error:
        raise InvalidRequest("cursor is not valid.") from error


def read_user_query(*names: str) -> tuple[UserQuery, Position | None]:
    """Return the query and where its page begins, which a cursor contains. Raises InvalidRequest."""
    asked: dict[str, Any] = {QUERY[name]: request.args.get(name, "") for name in names}
    asked["text"] = search_text(asked["text"])
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
    stream = _stream(nullcontext() if request.method == "HEAD" else audited, csv_lines(header, rows))
    first = BOM + next(stream)
    # A long file may take longer than a request; each of its calls has a deadline of its own.
    rest = as_request(lambda: next(stream, ""), math.inf)
    response = Response(itertools.chain([first], iter(rest, "")), mimetype="text/csv")
    response.call_on_close(as_request(stream.close, math.inf))
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _stream(audited: AbstractContextManager[None], lines: Iterator[str]) -> Generator[str]:
    """Yield the lines in chunks. Until the last one has been taken, the file counts as cut short."""
    rows = -1  # the first line is the header
    with audited:
        try:
            while chunk := list(itertools.islice(lines, CHUNK)):
                yield "".join(chunk)
                rows += len(chunk)
        except BaseException as error:
            error.add_note(f"stopped after {max(rows, 0):,} rows")
            raise
