"""The token endpoint (RFC 6749; learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow)."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace

from flask import Blueprint, jsonify, request
from flask.typing import ResponseReturnValue

from local_azure.encoding import encode_base64url
from local_azure.entra.clients import Client, authenticate
from local_azure.entra.errors import EntraError, get_parameter
from local_azure.entra.grants import REFRESH_SECONDS, SPA_REFRESH_SECONDS, Grant, narrow
from local_azure.entra.refusals import raise_planted_refusal
from local_azure.entra.registration import WEB_CLIENT_ID, WebRegistration
from local_azure.entra.scopes import Scopes
from local_azure.entra.service import EntraId, get_entra
from local_azure.entra.tokens import BEARER, TOKEN_SECONDS, make_client_info

bp = Blueprint("token", __name__)


@bp.post("/<tenant>/oauth2/v2.0/token", endpoint="token")
def issue_tokens(tenant: str) -> ResponseReturnValue:
    """Exchange a code, a refresh token or the client's credentials for tokens."""
    entra = get_entra()
    form = request.form.to_dict()
    raise_planted_refusal()
    tenant = entra.check_tenant(tenant)
    grant_type = get_parameter(form, "grant_type")
    client = authenticate(entra, form, request.authorization)
    match grant_type:
        case "authorization_code":
            body = _make_body(entra, client, tenant, _redeem_code(entra, client, form), form)
        case "refresh_token":
            body = _make_body(entra, client, tenant, _redeem_refresh_token(entra, client, form), form)
        case "client_credentials":
            body = _make_app_body(entra, client, form)
        case _:
            raise EntraError(
                "unsupported_grant_type",
                70003,
                f"The app requested an unsupported grant type '{grant_type}'.",
            )
    response = jsonify(body)
    response.headers["Cache-Control"] = "no-store, no-cache"
    response.headers["Pragma"] = "no-cache"
    return response


def _redeem_code(entra: EntraId, client: Client, form: Mapping[str, str]) -> Grant:
    """Return the grant for a code, and use the code up even if the later checks fail."""
    code = get_parameter(form, "code")
    redirect_uri = get_parameter(form, "redirect_uri")
    grant = entra.codes.take(code)
    if grant is None:
        if entra.codes.was_taken(code):
            raise EntraError("invalid_grant", 54005, "OAuth2 Authorization code was already redeemed.")
        raise EntraError("invalid_grant", 70008, "The provided authorization code is expired or unknown.")
    if grant.client_id != client.app.client_id:
        raise EntraError(
            "invalid_grant", 70000, "Provided grant is invalid: it was issued to another client."
        )
    if grant.redirect_uri != redirect_uri:
        raise EntraError(
            "invalid_grant",
            500112,
            f"The reply address '{redirect_uri}' does not match the reply address '{grant.redirect_uri}'"
            " provided when requesting Authorization code.",
        )
    _check_verifier(grant, form.get("code_verifier", ""))
    return narrow(grant, _read_scopes(form, grant), nonce=grant.nonce)


def _check_verifier(grant: Grant, verifier: str) -> None:
    """Compare the code verifier with the challenge (RFC 7636, section 4.6)."""
    if grant.challenge is None and not verifier:
        return
    if grant.challenge_method == "S256":
        # A verifier that is not ASCII is invalid, and must not raise an exception.
        verifier = encode_base64url(hashlib.sha256(verifier.encode("utf-8")).digest())
    if grant.challenge is None or not hmac.compare_digest(verifier.encode(), grant.challenge.encode()):
        raise EntraError(
            "invalid_grant",
            501481,
            "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
        )


def _redeem_refresh_token(entra: EntraId, client: Client, form: Mapping[str, str]) -> Grant:
    value = get_parameter(form, "refresh_token")
    grant = entra.refresh_tokens.find(value)
    if grant is None or grant.client_id != client.app.client_id:
        raise EntraError("invalid_grant", 70000, "Provided grant is invalid or malformed.")
    scopes = _read_scopes(form, grant)
    if entra.refresh_tokens.take(value) is None:
        raise EntraError("invalid_grant", 70000, "The refresh token was already used.")
    return narrow(grant, scopes)


def _read_scopes(form: Mapping[str, str], grant: Grant) -> Scopes:
    """Return the requested scopes; granted OpenID Connect scopes stay granted."""
    if not form.get("scope"):
        return grant.scopes
    scopes = Scopes.parse(form["scope"])
    return replace(scopes, openid=scopes.openid | grant.scopes.openid)


def _make_body(
    entra: EntraId, client: Client, tenant: str, grant: Grant, form: Mapping[str, str]
) -> dict[str, object]:
    account = entra.get_account(grant.username, tenant)
    app = client.app
    body: dict[str, object] = {
        "token_type": BEARER,
        "scope": grant.scopes.text,
        "expires_in": TOKEN_SECONDS,
        "ext_expires_in": TOKEN_SECONDS,
        "access_token": entra.tokens.mint_access_token(
            account, app.client_id, grant.scopes, sid=grant.sid, client_proof=client.proof
        ),
    }
    if "offline_access" in grant.scopes.openid:
        lifetime = REFRESH_SECONDS if isinstance(app, WebRegistration) else SPA_REFRESH_SECONDS
        body["refresh_token"] = entra.refresh_tokens.add(narrow(grant, grant.scopes), lifetime)
    if "openid" in grant.scopes.openid:
        body["id_token"] = entra.tokens.mint_id_token(
            account, app.client_id, nonce=grant.nonce, sid=grant.sid
        )
    if form.get("client_info") == "1":
        body["client_info"] = make_client_info(account)
    return body


def _make_app_body(entra: EntraId, client: Client, form: Mapping[str, str]) -> dict[str, object]:
    """Return a token for the app itself, in its own tenant regardless of the URL."""
    scope = get_parameter(form, "scope")
    if not isinstance(client.app, WebRegistration):
        raise EntraError("unauthorized_client", 700025, "A public client cannot ask for an app-only token.")
    if scope not in {f"{WEB_CLIENT_ID}/.default", f"api://{WEB_CLIENT_ID}/.default"}:
        raise EntraError(
            "invalid_scope",
            1002012,
            f"The provided value for scope {scope} is not valid. Client credential flows must have a scope"
            " value with /.default suffixed to the resource identifier.",
        )
    return {
        "token_type": BEARER,
        "expires_in": TOKEN_SECONDS,
        "ext_expires_in": TOKEN_SECONDS,
        "access_token": entra.tokens.mint_app_token(client.proof),
    }
