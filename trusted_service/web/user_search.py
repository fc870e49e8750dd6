"""What an address asks the list of users for, and where in the list it goes on."""

import json

from flask import request

from trusted_service.directory import Place, Sort, Status, UserPage, UserQuery
from trusted_service.errors import InvalidRequest
from trusted_service.web import cursor
from trusted_service.web.context import services


def read(*names: str) -> tuple[UserQuery, Place | None]:
    """Return the query, and the place from which on.

    A cursor goes on with the query that it comes from, so it needs nothing else. Raises InvalidRequest
    for one that is not ours, and where something else is asked for beside it.
    """
    given = {name: request.args.get(name, "") for name in names}
    given["q"] = given["q"].strip()
    asked = {name: value for name, value in given.items() if value}
    asked |= {"sort": "name"} if _sort(asked.pop("sort", "")) == "name" else {}
    place = None
    if begun := cursor.unwrap(request.args.get("cursor", "")):
        try:
            earlier, key, last_tenant_id = json.loads(begun)
            place = Place(key=str(key), tenant_id=str(last_tenant_id))
        except (ValueError, TypeError) as error:
            raise InvalidRequest("cursor is one of an older version.") from error
        if any(earlier.get(name) != value for name, value in asked.items()):
            raise InvalidRequest("cursor belongs to a list of something else.")
        asked = earlier
    tenant_id = asked.get("tenant")
    query = UserQuery(
        text=asked.get("q", ""),
        status=_status(asked.get("status", "")),
        tenant_id=tenant_id if tenant_id in services().settings.entra.allowed_tenants else None,
        sort=_sort(asked.get("sort", "")),
    )
    return query, place


def next_cursor(query: UserQuery, page: UserPage) -> str | None:
    """What leads to the next page, or None."""
    if page.next is None:
        return None
    asked = {"q": query.text, "status": query.status, "tenant": query.tenant_id}
    asked["sort"] = None if query.sort == "newest" else query.sort
    query_members = {name: value for name, value in asked.items() if value}
    return cursor.wrap(json.dumps([query_members, page.next.key, page.next.tenant_id]))


def _status(value: str) -> Status | None:
    """Raises InvalidRequest unless it is `active`, `blocked` or empty."""
    match value:
        case "":
            return None
        case "active" | "blocked":
            return value
    raise InvalidRequest("status must be active or blocked.")


def _sort(value: str) -> Sort:
    """The order of this name; for any other name it is the usual one."""
    return "name" if value == "name" else "newest"
