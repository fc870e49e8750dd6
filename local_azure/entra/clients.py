"""Authenticates the app that calls the token endpoint."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote_plus

from werkzeug.datastructures import Authorization

from local_azure.entra.assertions import ASSERTION_TYPE
from local_azure.entra.errors import EntraError, get_parameter
from local_azure.entra.registration import Registration, WebRegistration
from local_azure.entra.service import EntraId


@dataclass(frozen=True)
class Client:
    """A caller of the token endpoint; `proof` is its `azpacr`: 0 none, 1 secret, 2 assertion."""

    app: Registration
    proof: str


def authenticate(entra: EntraId, form: Mapping[str, str], basic: Authorization | None) -> Client:
    """Return the calling client.

    Raises EntraError: AADSTS700016 unknown (400), AADSTS7000215 wrong secret, AADSTS7000218 no proof,
    AADSTS50012 and others for a bad assertion (401).
    """
    client_id = form.get("client_id", "")
    secret = form.get("client_secret", "")
    assertion = form.get("client_assertion", "")
    if basic is not None and basic.type == "basic":
        # Both parts are form-encoded before they are joined (RFC 6749, section 2.3.1).
        client_id = unquote_plus(basic.username or "")
        secret = unquote_plus(basic.password or "")
    if not client_id and assertion:
        client_id = entra.assertions.identify(assertion) or ""
    app = entra.registrations.find(client_id or get_parameter(form, "client_id"))
    if app is None:
        raise EntraError(
            "unauthorized_client",
            700016,
            f"Application with identifier '{client_id}' was not found in the directory 'Contoso'.",
        )
    if not isinstance(app, WebRegistration):
        if secret or assertion:
            raise _refuse(
                700025,
                "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
            )
        return Client(app, "0")
    if assertion:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise _refuse(
                900144, "The request body must contain the following parameter: 'client_assertion_type'."
            )
        entra.assertions.check(app, assertion)
        return Client(app, "2")
    if not secret:
        raise _refuse(
            7000218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )
    if not hmac.compare_digest(secret.encode(), app.secret.encode()):
        raise _refuse(
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret"
            f" value, not the client secret ID, for a secret added to app '{app.client_id}'.",
        )
    return Client(app, "1")


def _refuse(code: int, message: str) -> EntraError:
    return EntraError("invalid_client", code, message, HTTPStatus.UNAUTHORIZED)
