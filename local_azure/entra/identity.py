"""The managed-identity endpoint of App Service, for one user-assigned identity.

learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
"""

import hmac
from http import HTTPStatus

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from local_azure.entra.registration import IDENTITY_CLIENT_ID
from local_azure.entra.service import get_entra
from local_azure.entra.tokens import BEARER

bp = Blueprint("identity", __name__)

API_VERSION = "2019-08-01"
PATH = "/msi/token"


@bp.get(PATH, endpoint="msi")
def issue_identity_token() -> ResponseReturnValue:
    """Return a token of the managed identity for `resource`."""
    entra = get_entra()
    header = request.headers.get("X-IDENTITY-HEADER", "")
    if not hmac.compare_digest(header.encode(), entra.identity_header.encode()):
        return _refuse(HTTPStatus.UNAUTHORIZED, "The X-IDENTITY-HEADER is missing or wrong.")
    if request.args.get("api-version") != API_VERSION:
        return _refuse(HTTPStatus.BAD_REQUEST, f"The api-version must be {API_VERSION}.")
    resource = request.args.get("resource", "")
    if not resource:
        return _refuse(HTTPStatus.BAD_REQUEST, "The resource is missing.")
    if request.args.get("client_id", "").lower() != IDENTITY_CLIENT_ID:
        return _refuse(
            HTTPStatus.BAD_REQUEST,
            "No User Assigned or Delegated Managed Identity found for specified"
            " ClientId/ResourceId/PrincipalId.",
        )
    token, expires_on = entra.tokens.mint_identity_token(resource, entra.identity_token_seconds)
    return {
        "access_token": token,
        "client_id": IDENTITY_CLIENT_ID,
        "expires_on": str(expires_on),
        "resource": resource,
        "token_type": BEARER,
    }


def _refuse(status: HTTPStatus, message: str) -> ResponseReturnValue:
    return {"statusCode": status, "message": message}, status
