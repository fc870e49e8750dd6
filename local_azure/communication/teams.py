"""Exchanges a Teams user's Entra ID token (learn.microsoft.com/rest/api/communication/identity)."""

import uuid
from collections.abc import Mapping
from http import HTTPStatus

from local_azure.communication.errors import CommunicationError, refuse_value
from local_azure.entra.scopes import TEAMS_AUDIENCE, TEAMS_SCOPES
from local_azure.signing import KeyRing


def check_exchange(entra_keys: KeyRing, body: Mapping[str, object]) -> tuple[str, float]:
    """Return the object id of the Teams user whose token `body` carries, and when it expires.

    Raises CommunicationError: 401 `InvalidAccessToken` for an invalid token, then 400 `ValidationError` for
    an `appId` or `userId` that is malformed or not the token's.
    """
    token = body.get("token")
    if token is None:
        raise refuse_value("Token: The Token field is required.", "Token")
    claims = _read_token(entra_keys, token)
    _check_id(body.get("appId"), claims.get("appid"), "appId")
    object_id = _check_id(body.get("userId"), claims.get("oid"), "userId")
    return object_id, float(str(claims["exp"]))


def _read_token(entra_keys: KeyRing, token: object) -> dict[str, object]:
    try:
        claims = entra_keys.read(str(token), audiences=(TEAMS_AUDIENCE,))
    except ValueError:
        raise _refuse_token() from None
    if not set(TEAMS_SCOPES) & set(str(claims.get("scp")).split()):
        raise _refuse_token()
    return claims


def _refuse_token() -> CommunicationError:
    return CommunicationError(
        HTTPStatus.UNAUTHORIZED, "InvalidAccessToken", "Provided access token is not valid."
    )


def _check_id(value: object, wanted: object, target: str) -> str:
    """Return a GUID in its usual spelling that equals the token's claim."""
    label = target[0].upper() + target[1:]
    try:
        found = str(uuid.UUID(str(value)))
    except ValueError:
        raise refuse_value(f"Provided {label} has invalid format.", target) from None
    if found != wanted:
        raise refuse_value(f"Provided {label} does not match the access token.", target)
    return found
