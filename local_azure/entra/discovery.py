"""The discovery document and the signing keys (OpenID Connect Discovery 1.0, RFC 7517)."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from local_azure.entra.registration import APP_SCOPE
from local_azure.entra.service import TENANT_INDEPENDENT, get_entra
from local_azure.entra.tampering import ROGUE_KEYS_PATH

bp = Blueprint("discovery", __name__)

TENANT_TEMPLATE = "{tenantid}"


@bp.get("/<tenant>/v2.0/.well-known/openid-configuration", endpoint="discovery")
def show_discovery(tenant: str) -> ResponseReturnValue:
    """Describe the endpoints of one tenant, or of all with an issuer template."""
    entra = get_entra()
    tenant = entra.check_tenant(tenant)
    tls, pages = f"{entra.tls_origin}/{tenant}", f"{entra.page_origin}/{tenant}"
    return {
        "token_endpoint": f"{tls}/oauth2/v2.0/token",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        "jwks_uri": f"{tls}/discovery/v2.0/keys",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code"],
        "scopes_supported": ["openid", "profile", "email", "offline_access", APP_SCOPE],
        "issuer": entra.tokens.name_issuer(_name_issuing_tenant(tenant)),
        "request_uri_parameter_supported": False,
        "authorization_endpoint": f"{pages}/oauth2/v2.0/authorize",
        "http_logout_supported": True,
        "frontchannel_logout_supported": True,
        "end_session_endpoint": f"{pages}/oauth2/v2.0/logout",
        "claims_supported": [
            *("sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid", "ver"),
            *("oid", "sid", "roles", "login_hint", "uti"),
        ],
        "code_challenge_methods_supported": ["plain", "S256"],
        "tenant_region_scope": None if tenant in TENANT_INDEPENDENT else "EU",
        "cloud_instance_name": "microsoftonline.com",
    }


@bp.get("/<tenant>/discovery/v2.0/keys", endpoint="keys")
def show_keys(tenant: str) -> ResponseReturnValue:
    """Publish the signing keys, each with the issuer it may sign for."""
    entra = get_entra()
    issuer = entra.tokens.name_issuer(_name_issuing_tenant(entra.check_tenant(tenant)))
    named = {"cloud_instance_name": "microsoftonline.com", "issuer": issuer}
    return {"keys": [key.jwk | named for key in entra.keys.published]}


@bp.get(ROGUE_KEYS_PATH, endpoint="rogue-keys")
def show_rogue_keys() -> ResponseReturnValue:
    """Publish the attacker's key, where the `jku` of a forged token points."""
    return {"keys": [get_entra().forge.rogue_key.jwk]}


def _name_issuing_tenant(tenant: str) -> str:
    return TENANT_TEMPLATE if tenant in TENANT_INDEPENDENT else tenant
