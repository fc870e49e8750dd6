"""The Flask app of the local Communication Services: five operations of the Identity REST API.

learn.microsoft.com/rest/api/communication/identity.
"""

import secrets
from http import HTTPStatus

from flask import Blueprint, Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from local_azure.communication.errors import (
    CommunicationError,
    make_error_body,
    make_fault_body,
    refuse_value,
)
from local_azure.communication.service import Endpoint, get_communication
from local_azure.communication.teams import check_exchange
from local_azure.communication.tokens import check_minutes, check_scopes
from local_azure.faults import Faults
from local_azure.journal import Journal
from local_azure.watch import Watch, name_operation

API_VERSIONS = ("2021-03-07", "2022-06-01", "2022-10-01", "2023-10-01", "2025-06-30", "2026-09-23")

bp = Blueprint("communication", __name__)


def create_app(endpoint: Endpoint, journal: Journal, faults: Faults) -> Flask:
    """Return the app that serves the resource of `endpoint`."""
    app = Flask("local_azure", static_folder=None)
    app.extensions["communication"] = endpoint
    app.json.sort_keys = False  # type: ignore[attr-defined]  # only the default provider has it
    Watch("acs", journal, faults, make_fault_body).install(app)
    app.register_blueprint(bp)
    app.register_error_handler(CommunicationError, _handle_error)
    app.register_error_handler(HTTPException, _handle_http_error)
    return app


@bp.before_request
def check_request() -> None:
    """Refuse unknown callers, unsupported API versions and requests beyond the limits."""
    communication = get_communication()
    target: str = request.environ["RAW_URI"]
    communication.callers.check(request.method, target, request.headers, request.get_data())
    version = request.args.get("api-version")
    if version not in API_VERSIONS:
        raise CommunicationError(
            HTTPStatus.BAD_REQUEST,
            "UnsupportedApiVersionValue",
            f"The api-version '{version}' is not supported. Supported: {', '.join(API_VERSIONS)}.",
        )
    communication.limits.count(name_operation() or "")


@bp.after_request
def add_headers(response: Response) -> Response:
    """Echo the request id if the caller asked for it, and list the API versions."""
    response.headers["api-supported-versions"] = ", ".join(API_VERSIONS)
    response.headers["MS-CV"] = f"{secrets.token_urlsafe(16).replace('-', 'a').replace('_', 'b')}.0"
    request_id = request.headers.get("x-ms-client-request-id")
    if request_id and request.headers.get("x-ms-return-client-request-id") == "true":
        response.headers["x-ms-client-request-id"] = request_id
    return response


@bp.post("/identities", endpoint="create")
def create_identity() -> ResponseReturnValue:
    """Create an identity, and a token for it if there are scopes."""
    communication = get_communication()
    body = _read_body()
    minutes = check_minutes(body.get("expiresInMinutes"))
    wanted = body.get("createTokenWithScopes")
    # Null and an empty list both mean no token.
    scopes = check_scopes(wanted) if wanted else ()
    identity = communication.identities.create(request.headers.get("x-ms-client-request-id", ""))
    response: dict[str, object] = {"identity": {"id": identity.id}}
    if scopes:
        response["accessToken"] = communication.tokens.issue(identity, scopes, minutes).to_json()
    return response, HTTPStatus.CREATED


@bp.post("/identities/<raw_id>/:issueAccessToken", endpoint="issue")
def issue_token(raw_id: str) -> ResponseReturnValue:
    """Issue a token for an identity."""
    communication = get_communication()
    identity = communication.identities.get(raw_id)
    body = _read_body()
    scopes = check_scopes(body.get("scopes"))
    minutes = check_minutes(body.get("expiresInMinutes"))
    return communication.tokens.issue(identity, scopes, minutes).to_json()


@bp.post("/identities/<raw_id>/:revokeAccessTokens", endpoint="revoke")
def revoke_tokens(raw_id: str) -> ResponseReturnValue:
    """Revoke all tokens of an identity."""
    get_communication().identities.revoke(raw_id)
    return "", HTTPStatus.NO_CONTENT


@bp.delete("/identities/<raw_id>", endpoint="delete")
def delete_identity(raw_id: str) -> ResponseReturnValue:
    """Delete an identity and with it all its tokens."""
    get_communication().identities.delete(raw_id)
    return "", HTTPStatus.NO_CONTENT


@bp.post("/teamsUser/:exchangeAccessToken", endpoint="exchange")
def exchange_token() -> ResponseReturnValue:
    """Exchange the Entra ID token of a Teams user for an ACS token."""
    communication = get_communication()
    object_id, expires_on = check_exchange(communication.entra_keys, _read_body())
    return communication.tokens.issue_for_teams_user(object_id, expires_on).to_json()


def _read_body() -> dict[str, object]:
    """Return the JSON object of the request, empty without a body."""
    if not request.get_data():
        return {}
    body = request.get_json(force=True, silent=True)
    if body is None and request.get_data(as_text=True).strip() == "null":
        return {}
    if not isinstance(body, dict):
        raise refuse_value("The request body is not a JSON object.", "body")
    return body


def _handle_error(error: CommunicationError) -> ResponseReturnValue:
    response = jsonify(error.to_json())
    response.status_code = error.status
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _handle_http_error(error: HTTPException) -> ResponseReturnValue:
    """Return routing errors in the form of the real service."""
    return jsonify(
        {"error": make_error_body(error.name.replace(" ", ""), str(error.description))}
    ), error.code or 500
