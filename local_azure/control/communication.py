"""Control routes of the local Communication Services."""

from http import HTTPStatus

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from local_azure.communication.errors import CommunicationError
from local_azure.communication.service import KEY_KINDS, CommunicationServices
from local_azure.control.state import get_controlled, read_members

bp = Blueprint("control-communication", __name__)


@bp.get("/acs")
def show_resources() -> ResponseReturnValue:
    """Show the endpoints, and which resource each one serves."""
    controlled = get_controlled()
    return {
        "limits": controlled.communication.limits.enabled,
        "endpoints": [endpoint.to_json() for endpoint in controlled.endpoints],
    }


@bp.patch("/acs")
def change_settings() -> ResponseReturnValue:
    """Turn the request limits on or off, swap the resources, or regenerate a key of the first one."""
    controlled = get_controlled()
    members = read_members()
    if "limits" in members:
        controlled.communication.limits.turn(members.flag("limits", False))
    if members.flag("swap", False):
        first, second = controlled.endpoints
        first.resource, second.resource = second.resource, first.resource
    if "regenerate" in members:
        controlled.communication.regenerate_key(members.one_of("regenerate", KEY_KINDS))
    return show_resources()


@bp.get("/acs/identities")
def list_identities() -> ResponseReturnValue:
    """List the identities of both resources, oldest first, which the real service cannot do."""
    return jsonify(
        [identity.to_json() for resource in _resources() for identity in resource.identities.list()]
    )


@bp.delete("/acs/identities/<raw_id>")
def delete_identity(raw_id: str) -> ResponseReturnValue:
    """Delete an identity without the service's knowledge."""
    try:
        _owner_of(raw_id).identities.delete(raw_id)
    except CommunicationError as error:
        return {"error": str(error)}, HTTPStatus.NOT_FOUND
    return "", HTTPStatus.NO_CONTENT


@bp.post("/acs/tokens/check")
def check_token() -> ResponseReturnValue:
    """Tell whether a token is valid now."""
    token = read_members().text("token")
    verdict = _resources()[0].tokens.check(token)
    if verdict.identity is not None:
        verdict = _owner_of(verdict.identity).tokens.check(token)
    return verdict.to_json()


def _resources() -> list[CommunicationServices]:
    """Return both resources, whichever endpoint serves them."""
    return [endpoint.resource for endpoint in get_controlled().endpoints]


def _owner_of(raw_id: str) -> CommunicationServices:
    """Return the resource of the identity, or the first one if it belongs to neither."""
    resources = _resources()
    prefixes = {f"8:acs:{resource.identities.resource_id}_": resource for resource in resources}
    return next((found for prefix, found in prefixes.items() if raw_id.startswith(prefix)), resources[0])
