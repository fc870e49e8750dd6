"""The API for the caller's own identity and tokens."""

from typing import Any

import structlog
from flask import Blueprint, Response, g, jsonify

from trusted_service.errors import InvalidRequest
from trusted_service.representation import rfc3339
from trusted_service.web import browser_session, csrf, json_body
from trusted_service.web.audience import signed_in
from trusted_service.web.context import actor, caller, services
from trusted_service.web.limits import limit_tokens

log = structlog.get_logger(__name__)

bp = Blueprint("api", __name__, url_prefix="/api")


@bp.get("/me")
@signed_in
def me() -> Response:
    """Who the caller is, and the value that unsafe requests of a browser session must carry."""
    user, session = caller().user, caller().session
    return jsonify(
        user={
            "tenantId": user.id.tenant_id,
            "objectId": user.id.object_id,
            "name": user.name,
            "username": user.username,
            "roles": list(user.roles),
        },
        communicationUserId=services().access.find_acs_user_id(caller()),
        csrfToken=None if session is None else csrf.value(session),
    )


@bp.post("/token")
@signed_in
@limit_tokens
def token() -> Response:
    """Issue a Communication Services token for the caller's own identity."""
    body = json_body.read_object(("scopes", "expiresInMinutes"))
    issued = services().access.issue_token(caller(), _scopes(body), _minutes(body))
    g.issued = issued
    log.info("authn_token_created", acs_user_id=issued.acs_user_id, scopes=issued.scopes)
    return jsonify(
        token=issued.access_token.token,
        expiresOn=rfc3339(issued.access_token.expires_on),
        user={"communicationUserId": issued.acs_user_id},
        scopes=list(issued.scopes),
    )


@bp.post("/token/teams")
@signed_in
@limit_tokens
def teams_token() -> Response:
    """Exchange the caller's own Entra ID token for Teams."""
    entra_token = json_body.read_object(("teamsUserAadToken",)).get("teamsUserAadToken")
    if not isinstance(entra_token, str):
        raise InvalidRequest("teamsUserAadToken must be a string.")
    token = services().access.exchange_teams_token(caller(), entra_token)
    return jsonify(token=token.token, expiresOn=rfc3339(token.expires_on))


@bp.post("/me/revoke")
@signed_in
def revoke() -> tuple[str, int]:
    """End every ACS token of the caller."""
    services().administration.revoke_own(actor(), caller().user.id)
    return "", 204


@bp.get("/me/export")
@signed_in
def export() -> Response:
    """All that is stored about the caller."""
    return jsonify(services().administration.export(caller().user.id))


@bp.delete("/me")
@signed_in
def delete() -> Response:
    """Erase the caller: ACS identity, mapping, sessions. A browser is signed out by it."""
    services().administration.delete(actor(), caller().user.id)
    g.session_ended = True
    response = Response(status=204)
    if caller().session is not None:
        browser_session.clear_cookie(response)
    return response


def _scopes(body: dict[str, Any]) -> tuple[str, ...] | None:
    if "scopes" not in body:
        return None
    scopes = body["scopes"]
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise InvalidRequest("scopes must be a list of strings.")
    return tuple(scopes)


def _minutes(body: dict[str, Any]) -> int | None:
    if "expiresInMinutes" not in body:
        return None
    minutes = body["expiresInMinutes"]
    if not isinstance(minutes, int) or isinstance(minutes, bool):
        raise InvalidRequest("expiresInMinutes must be a whole number.")
    return minutes
