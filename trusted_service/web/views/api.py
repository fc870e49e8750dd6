"""The API for the caller's own identity and tokens."""

from flask import Blueprint, Response, jsonify

from trusted_service.models import rfc3339
from trusted_service.web.http import request_body
from trusted_service.web.http.context import actor, caller, record_use, services
from trusted_service.web.openapi import models
from trusted_service.web.security.audiences import signed_in
from trusted_service.web.security.authentication import clear_cookie, csrf_value
from trusted_service.web.security.rate_limits import limit_account, limit_tokens

bp = Blueprint("api", __name__, url_prefix="/api")


@bp.get("/me")
@signed_in
@models.Operation("getMe", models.Me)
def me() -> Response:
    """Get the caller."""
    user = caller().user
    return jsonify(
        user={
            "tenantId": user.id.tenant_id,
            "objectId": user.id.object_id,
            "name": user.name,
            "username": user.username,
            "roles": list(user.roles),
        },
        communicationUserId=services().access.find_acs_user_id(caller()),
        csrfToken=csrf_value(caller().session),
    )


@bp.post("/token")
@signed_in
@limit_tokens
@models.Operation("createToken", models.Token, request=models.TokenRequest)
def token() -> Response:
    """Get a token for the caller's own identity. The first one creates the identity."""
    settings = services().settings
    wanted = request_body.parse(models.token_request(settings.token_scopes, settings.token_lifetime_minutes))
    issued = services().access.issue_token(caller(), tuple(wanted.scopes), wanted.expires_in_minutes)
    record_use(caller(), issued)
    return jsonify(
        token=issued.access_token.token,
        expiresOn=rfc3339(issued.access_token.expires_on),
        user={"communicationUserId": issued.acs_user_id},
        scopes=list(issued.scopes),
    )


@bp.post("/token/teams")
@signed_in
@limit_tokens
@models.Operation("exchangeTeamsToken", models.TeamsToken, request=models.TeamsTokenRequest)
def teams_token() -> Response:
    """Exchange the caller's own Teams token. Another user's is `forbidden`, a bad one `invalid_request`."""
    entra_token = request_body.parse(models.TeamsTokenRequest).teams_user_aad_token
    token = services().access.exchange_teams_token(caller(), entra_token)
    return jsonify(token=token.token, expiresOn=rfc3339(token.expires_on))


@bp.post("/me/revoke")
@signed_in
@limit_account
@models.Operation("revokeMe", statuses=(204,))
def revoke() -> tuple[str, int]:
    """Revoke the caller's tokens. Communication Services refuses them everywhere after up to 15 minutes."""
    services().administration.revoke_own(actor(), caller().user.id)
    return "", 204


@bp.get("/me/export")
@signed_in
@limit_account
@models.Operation("exportMe", models.Export)
def export() -> Response:
    """Get everything that is stored about the caller. Of a very long audit trail, only the newest part."""
    return jsonify(services().personal_data.export(caller().user.id, limited=True))


@bp.delete("/me")
@signed_in
@limit_account
@models.Operation("deleteMe", statuses=(204,), errors=(409,))
def delete() -> Response:
    """Erase the caller. Identity, mapping and sessions are deleted; a browser is signed out."""
    services().administration.delete(actor(), caller().user.id)
    response = Response(status=204)
    if caller().session is not None:
        clear_cookie(response)
    return response
