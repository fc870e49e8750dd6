"""Control routes of the Communication Services stand-in."""

from http import HTTPStatus

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from local_azure.communication.errors import CommunicationError
from local_azure.control.state import get_controlled, read_members

bp = Blueprint("control-communication", __name__)


@bp.get("/acs/identities")
def list_identities() -> ResponseReturnValue:
    """List the live identities, oldest first: what the real service tells nobody."""
    return jsonify([identity.to_json() for identity in get_controlled().communication.identities.list()])


@bp.delete("/acs/identities/<raw_id>")
def delete_identity(raw_id: str) -> ResponseReturnValue:
    """Delete an identity behind the back of the service that uses it."""
    try:
        get_controlled().communication.identities.delete(raw_id)
    except CommunicationError as error:
        return {"error": str(error)}, HTTPStatus.NOT_FOUND
    return "", HTTPStatus.NO_CONTENT


@bp.post("/acs/tokens/check")
def check_token() -> ResponseReturnValue:
    """Tell whether a token is good right now."""
    return get_controlled().communication.tokens.check(read_members().text("token")).to_json()


@bp.patch("/acs")
def change_settings() -> ResponseReturnValue:
    """Turn the service's request limits on or off."""
    limits = get_controlled().communication.limits
    limits.turn(read_members().flag("limits", limits.enabled))
    return {"limits": limits.enabled}
