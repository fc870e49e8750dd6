"""The administrators' API."""

from uuid import UUID

from flask import Blueprint, Response, jsonify, request

from trusted_service.errors import InvalidRequest, UpstreamError
from trusted_service.models import UserId
from trusted_service.representation import user_json
from trusted_service.users.actions import ACTIONS, LAST_ADMINISTRATOR, Action
from trusted_service.web.http import lists
from trusted_service.web.http.context import actor, services
from trusted_service.web.openapi.models import Operation, User, UserPage
from trusted_service.web.security.audiences import administrator
from trusted_service.web.security.rate_limits import limit_administration

bp = Blueprint("admin_api", __name__, url_prefix="/api/admin")

USER = "/users/<uuid:tenant_id>/<uuid:object_id>"
QUERY: dict[str, dict[str, object]] = {
    "q": {"description": "Beginning of a word of the name or of the user name, or an object or ACS user id."},
    "status": {"description": "Only these.", "enum": ["active", "blocked"]},
    "cursor": {"description": "`next` of the previous page."},
}
CONFIRM: dict[str, dict[str, object]] = {
    "confirm": {"description": "Even the last administrator.", "enum": [LAST_ADMINISTRATOR]}
}


@bp.get("/users")
@administrator
@Operation("listUsers", UserPage, query=QUERY)
def users() -> Response:
    """Find users. Without a query all of them, the newest first.

    This and the other operations here require the admin role; an app-only token can have it.
    """
    query, place = lists.read_user_query("q", "status")
    page = services().directory.page(query, place)
    return jsonify(users=[user_json(user) for user in page.users], next=lists.next_user_cursor(query, page))


@bp.get(USER)
@administrator
@Operation("getUser", User)
def user(tenant_id: UUID, object_id: UUID) -> Response:
    """Get a user."""
    return jsonify(user_json(services().identities.get(UserId(str(tenant_id), str(object_id)))))


def _add_action(action: Action) -> None:
    def view(tenant_id: UUID, object_id: UUID) -> Response:
        user_id, confirm = UserId(str(tenant_id), str(object_id)), request.args.get("confirm")
        if action.ends_access and confirm not in (None, LAST_ADMINISTRATOR):
            raise InvalidRequest(f"confirm must be {LAST_ADMINISTRATOR}.")
        action.run(services().administration, actor(), user_id, reason="", confirmed=confirm is not None)
        if action.status == 204:
            return Response(status=204)
        try:
            user = services().identities.find(user_id)
        except UpstreamError as error:
            error.done = "action"
            raise
        return jsonify(user_json(user or user_id))

    view.__doc__ = f"{action.summary}. {action.description}"
    response = None if action.status == 204 else User
    operation_id = "signOutUser" if action.name == "sign-out" else f"{action.name}User"
    errors = () if action.name in ("revoke", "sign-out") else (409,)
    query = CONFIRM if action.ends_access else {}
    limited = limit_administration(view)
    statuses = (action.status,)
    Operation(operation_id, response, statuses=statuses, errors=errors, query=query)(administrator(limited))
    bp.add_url_rule(f"{USER}/{action.name}", action.name, limited, methods=["POST"])


for _action in ACTIONS.values():
    _add_action(_action)
