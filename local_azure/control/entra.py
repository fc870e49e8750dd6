"""Control routes of the local Entra ID."""

from http import HTTPStatus
from typing import get_args

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from local_azure.control.state import Controlled, get_controlled, read_document, read_members
from local_azure.documents import Members
from local_azure.entra.accounts import TENANTS, Account
from local_azure.entra.identity import PATH as IDENTITY_PATH
from local_azure.entra.registration import APP_SCOPE, IDENTITY_CLIENT_ID, IDENTITY_PRINCIPAL_ID, WEB_CLIENT_ID
from local_azure.entra.scopes import TEAMS_AUDIENCE, TEAMS_SCOPES, Scopes
from local_azure.entra.tampering import Tampering, TokenKind
from local_azure.entra.tokens import TOKEN_SECONDS, TokenSpec

NO_ID_TOKEN = dict.fromkeys(["id_token"])

bp = Blueprint("control-entra", __name__)

SCOPE_ALIASES = {"teams": " ".join(f"{TEAMS_AUDIENCE}/{name}" for name in TEAMS_SCOPES)}


@bp.get("/entra/app")
def show_app() -> ResponseReturnValue:
    """Show the app registrations and how to reach Entra ID and the managed identity."""
    return _describe_app(get_controlled())


@bp.patch("/entra/app")
def change_app() -> ResponseReturnValue:
    """Change the web app's redirect URIs, front-channel logout URL or secret, or the identity's tokens."""
    controlled = get_controlled()
    registrations = controlled.entra.registrations
    members = read_members()
    web = registrations.web
    web.redirect_uris = members.texts("redirectUris", web.redirect_uris)
    if "frontChannelLogoutUrl" in members:
        web.front_channel_logout_url = members.optional_text("frontChannelLogoutUrl")
    if "clientSecret" in members:
        registrations.change_secret(members.text("clientSecret"))
    entra = controlled.entra
    entra.identity_token_seconds = members.integer("identityTokenSeconds", entra.identity_token_seconds)
    return _describe_app(controlled)


@bp.post("/entra/certificates")
def add_certificate() -> ResponseReturnValue:
    """Register one more certificate of the web app, whose file `certificatePath` names from now on."""
    controlled = get_controlled()
    controlled.entra.registrations.web.certificates.rotate(keep_old=True)
    return _describe_app(controlled)


@bp.delete("/entra/certificates")
def remove_old_certificates() -> ResponseReturnValue:
    """Remove every certificate of the web app but the newest."""
    get_controlled().entra.registrations.web.certificates.remove_old()
    return "", HTTPStatus.NO_CONTENT


@bp.get("/accounts")
def list_accounts() -> ResponseReturnValue:
    """List the accounts that can sign in."""
    return jsonify([account.to_json() for account in get_controlled().entra.directory.list()])


@bp.put("/accounts/<username>")
def put_account(username: str) -> ResponseReturnValue:
    """Create or replace an account."""
    account = Account.from_json(username, read_document())
    get_controlled().entra.directory.put(account)
    return account.to_json()


@bp.delete("/accounts/<username>")
def delete_account(username: str) -> ResponseReturnValue:
    """Delete an account."""
    get_controlled().entra.directory.remove(username)
    return "", HTTPStatus.NO_CONTENT


@bp.post("/entra/tamper")
def tamper() -> ResponseReturnValue:
    """Tamper with the next tokens (see `tampering.KINDS`)."""
    members = read_members()
    tampering = Tampering(members.text("kind"), members.mapping("claims"))
    kind = members.one_of("token", get_args(TokenKind), "id")
    get_controlled().entra.forge.plan(kind, tampering, members.integer("times", 1))
    return "", HTTPStatus.NO_CONTENT


@bp.post("/entra/rotate-keys")
def rotate_keys() -> ResponseReturnValue:
    """Sign with a new key; `keepOld` says whether the old ones stay published."""
    keys = get_controlled().entra.keys
    keys.rotate(keep_old=read_members().flag("keepOld", True))
    return {"published": [key.thumbprint for key in keys.published]}


@bp.post("/entra/token")
def mint_tokens() -> ResponseReturnValue:
    """Issue tokens without a browser: `access_token` and, for an account, `id_token`."""
    entra = get_controlled().entra
    members = read_members()
    spec = TokenSpec(
        lifetime=members.integer("lifetimeSeconds", TOKEN_SECONDS), tampering=_read_tampering(members)
    )
    if members.flag("app", False):
        return {"access_token": entra.tokens.mint_app_token("1", spec)} | NO_ID_TOKEN
    account = entra.directory.find(members.text("username"))
    if account is None:
        raise ValueError("username is not an account")
    client_id = members.text("clientId", WEB_CLIENT_ID)
    text = members.text("scope", f"{WEB_CLIENT_ID}/{APP_SCOPE}")
    scopes = Scopes.parse(SCOPE_ALIASES.get(text, text))
    access_token = entra.tokens.mint_access_token(
        account, client_id, scopes, sid=None, client_proof="1", spec=spec
    )
    id_token = entra.tokens.mint_id_token(account, client_id, nonce=None, sid=None, spec=spec)
    return {"access_token": access_token, "id_token": id_token}


def _read_tampering(members: Members) -> Tampering | None:
    """Return the requested tampering; `claims` alone means the kind of that name."""
    kind = members.optional_text("tamper")
    claims = members.mapping("claims")
    if kind is None and not claims:
        return None
    return Tampering(kind or "claims", claims)


def _describe_app(controlled: Controlled) -> dict[str, object]:
    entra = controlled.entra
    web, spa = entra.registrations.web, entra.registrations.spa
    return {
        "clientId": web.client_id,
        "clientSecret": web.secret,
        "spaClientId": spa.client_id,
        "certificatePath": str(controlled.write_client_certificate()),
        "managedIdentityClientId": IDENTITY_CLIENT_ID,
        "managedIdentityPrincipalId": IDENTITY_PRINCIPAL_ID,
        "identityEndpoint": f"{entra.page_origin}{IDENTITY_PATH}",
        "identityHeader": entra.identity_header,
        "tenants": dict(TENANTS),
        "redirectUris": list(web.redirect_uris),
        "frontChannelLogoutUrl": web.front_channel_logout_url,
        "tlsOrigin": entra.tls_origin,
        "pageOrigin": entra.page_origin,
    }
