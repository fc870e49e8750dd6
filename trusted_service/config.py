"""The settings of this service, as the environment hands them over.

`Settings.from_env` names every bad setting at once. What each setting means stands in the README.
"""

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from limits import parse_many

from trusted_service.environment import Environment, SettingsError
from trusted_service.models import parse_guid

TOKEN_SCOPES = ("chat", "voip", "chat.join", "chat.join.limited", "voip.join")
SHORTEST_KEY = 32
PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of all personal accounts: https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class EntraSettings:
    """How to reach Entra ID, and how the app proves itself: exactly one of the last three is set."""

    authority: str
    client_id: str
    allowed_tenants: tuple[str, ...]
    client_secret: str | None = field(default=None, repr=False)
    client_certificate_path: str | None = None
    managed_identity_client_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """An Azure resource: with an access key in a connection string, or by managed identity at an endpoint."""

    connection_string: str | None = field(default=None, repr=False)
    endpoint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the service is told from outside. `secret_keys`: the current one first."""

    public_url: str
    secret_keys: tuple[str, ...] = field(repr=False)
    entra: EntraSettings
    communication_services: ServiceSettings
    table_storage: ServiceSettings
    admin_role: str
    api_scope: str
    api_clients: tuple[str, ...]
    token_scopes: tuple[str, ...]
    token_lifetime_minutes: int
    session_idle_minutes: int
    session_absolute_minutes: int
    table_storage_create_tables: bool
    missing_identity_grace_seconds: int
    cors_origins: tuple[str, ...]
    rate_limit_token: str
    rate_limit_sign_in: str
    rate_limit_storage_uri: str = field(repr=False)
    trusted_proxy_hops: int
    log_format: Literal["json", "text"]
    applicationinsights_connection_string: str | None = field(default=None, repr=False)

    @property
    def https(self) -> bool:
        """Whether browsers reach us over https."""
        return self.public_url.startswith("https://")

    @classmethod
    def from_env(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """Raises SettingsError, which names every setting that is missing, malformed or weak."""
        env = Environment(variables)
        log_format = env.text("LOG_FORMAT", "json")
        if log_format not in ("json", "text"):
            env.complain("LOG_FORMAT", "must be json or text")
        settings = cls(
            public_url=_public_url(env),
            secret_keys=_secret_keys(env),
            entra=_entra(env),
            communication_services=_service(
                env,
                "COMMUNICATION_SERVICES",
                _communication_connection,
                "endpoint=https://…;accesskey=<base64>",
            ),
            table_storage=_service(
                env, "TABLE_STORAGE", _storage_connection, "AccountName=…;AccountKey=<base64>;…, over https"
            ),
            admin_role=env.text("ENTRA_ADMIN_ROLE", "TrustedService.Admin"),
            api_scope=env.text("ENTRA_API_SCOPE", "access_as_user"),
            api_clients=_guids(env, "ENTRA_API_CLIENTS"),
            token_scopes=_token_scopes(env),
            token_lifetime_minutes=env.number("TOKEN_LIFETIME_MINUTES", 60, lowest=60, highest=1440),
            session_idle_minutes=env.number("SESSION_IDLE_MINUTES", 60, lowest=1, highest=525_600),
            session_absolute_minutes=env.number("SESSION_ABSOLUTE_MINUTES", 480, lowest=1, highest=525_600),
            table_storage_create_tables=env.flag("TABLE_STORAGE_CREATE_TABLES", default=True),
            missing_identity_grace_seconds=env.number(
                "MISSING_IDENTITY_GRACE_SECONDS", 30, lowest=0, highest=86_400
            ),
            cors_origins=_cors_origins(env),
            rate_limit_token=_rate_limit(env, "RATE_LIMIT_TOKEN", "30 per minute"),
            rate_limit_sign_in=_rate_limit(env, "RATE_LIMIT_SIGN_IN", "60 per minute"),
            rate_limit_storage_uri=_rate_limit_storage(env),
            trusted_proxy_hops=env.number("TRUSTED_PROXY_HOPS", 0, lowest=0, highest=10),
            log_format="text" if log_format == "text" else "json",
            applicationinsights_connection_string=_application_insights(env),
        )
        if env.problems:
            raise SettingsError(env.problems)
        return settings


def origin(value: str) -> str:
    """Return an https origin (or an http one of this machine) in its canonical form, else raise ValueError.

    https://html.spec.whatwg.org/multipage/browsers.html#origin
    """
    url = urlsplit(value)
    host, port = url.hostname, url.port
    canonical = f"{url.scheme}://{url.netloc.lower()}"
    if url.username is not None or not host or not re.fullmatch(r"[a-z0-9.:-]+", host):
        raise ValueError("not an origin")
    if value.lower() not in (canonical, canonical + "/") or port == 0 or canonical.endswith(":"):
        raise ValueError("more than an origin")
    if url.scheme != "https" and not (url.scheme == "http" and host in LOOPBACK):
        raise ValueError("not https")
    return canonical.removesuffix(":443" if url.scheme == "https" else ":80")


def _public_url(env: Environment) -> str:
    value = env.required("PUBLIC_URL")
    expected = "an https origin such as https://calls.contoso.com, without a path (http only on localhost)"
    return (value and env.check("PUBLIC_URL", value, origin, expected)) or ""


def _secret_keys(env: Environment) -> tuple[str, ...]:
    current = env.required("SECRET_KEY")
    weak = f"is weak: a key must have at least {SHORTEST_KEY} characters"
    if 0 < len(current) < SHORTEST_KEY:
        env.complain("SECRET_KEY", weak)
    older = env.words("SECRET_KEY_FALLBACKS")
    if any(len(key) < SHORTEST_KEY for key in older):
        env.complain("SECRET_KEY_FALLBACKS", weak)
    return (current, *older)


def _entra(env: Environment) -> EntraSettings:
    authority = env.required("ENTRA_AUTHORITY").rstrip("/")
    expected = "https://login.microsoftonline.com/<tenant id>, or …/organizations, without personal accounts"
    tenant = (authority and env.check("ENTRA_AUTHORITY", authority, _authority_tenant, expected)) or ""
    client_id = env.required("ENTRA_CLIENT_ID")
    name, proof = env.exactly_one(
        "ENTRA_CLIENT_SECRET", "ENTRA_CLIENT_CERTIFICATE_PATH", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"
    )
    if name == "ENTRA_CLIENT_CERTIFICATE_PATH":
        env.check(name, proof, _certificate, "the path of a PEM file with a certificate and its private key")
    if name == "ENTRA_MANAGED_IDENTITY_CLIENT_ID":
        env.check(name, proof, parse_guid, "a GUID")
    return EntraSettings(
        authority=authority,
        client_id=(client_id and env.check("ENTRA_CLIENT_ID", client_id, parse_guid, "a GUID")) or "",
        allowed_tenants=_allowed_tenants(env, tenant),
        client_secret=proof if name == "ENTRA_CLIENT_SECRET" else None,
        client_certificate_path=proof if name == "ENTRA_CLIENT_CERTIFICATE_PATH" else None,
        managed_identity_client_id=proof if name == "ENTRA_MANAGED_IDENTITY_CLIENT_ID" else None,
    )


def _certificate(path: str) -> None:
    try:
        pem = Path(path).read_bytes()
        key = load_pem_private_key(pem, password=None)
        certificate = load_pem_x509_certificate(pem)
    except (OSError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not usable") from error
    if key.public_key() != certificate.public_key():
        raise ValueError("of two different pairs")


def _authority_tenant(authority: str) -> str:
    host, _, tenant = authority.removeprefix("https://").partition("/")
    origin(f"https://{host}")
    if not authority.startswith("https://") or not re.fullmatch(r"[\w.-]+", tenant):
        raise ValueError("not an authority")
    if tenant.lower() in ("common", "consumers", PERSONAL_TENANT):
        raise ValueError("admits personal accounts")
    return tenant


def _allowed_tenants(env: Environment, authority_tenant: str) -> tuple[str, ...]:
    before = len(env.problems)
    allowed = _guids(env, "ENTRA_ALLOWED_TENANTS")
    if allowed or len(env.problems) > before or not authority_tenant:
        return allowed
    try:
        return (parse_guid(authority_tenant),)
    except ValueError:
        env.complain("ENTRA_ALLOWED_TENANTS", "is missing: the authority does not name one tenant by its id")
        return ()


def _guids(env: Environment, name: str) -> tuple[str, ...]:
    guids = (env.check(name, word, parse_guid, "GUIDs, separated by commas") for word in env.words(name))
    return tuple(guid for guid in guids if guid)


def _service(env: Environment, name: str, parse: Callable[[str], object], expected: str) -> ServiceSettings:
    given, value = env.exactly_one(f"{name}_CONNECTION_STRING", f"{name}_ENDPOINT")
    if given == f"{name}_ENDPOINT":
        address = _table_endpoint if name == "TABLE_STORAGE" else origin
        return ServiceSettings(endpoint=env.check(given, value, address, "an https address without a path"))
    if given:
        env.check(given, value, parse, expected)
    return ServiceSettings(connection_string=value or None)


def _table_endpoint(value: str) -> str:
    """An origin, behind which an emulator has the account's name as a path."""
    base, _, account = value.rstrip("/").rpartition("/")
    if re.fullmatch(r"[a-z0-9]{3,24}", account) and base.count("/") == 2:
        return f"{origin(base)}/{account}"
    return origin(value)


def connection_parts(value: str) -> dict[str, str]:
    """Split `Name=value;…`, names in lower case. Raises ValueError unless each has a value, and one."""
    pairs = [part.split("=", 1) for part in value.split(";") if part.strip()]
    parts = {name.strip().lower(): text.strip() for name, text in pairs}
    if len(parts) < len(pairs) or not all(parts.values()):
        raise ValueError("a part stands twice, or is empty")
    return parts


def _communication_connection(value: str) -> None:
    parts = connection_parts(value)
    origin(parts.get("endpoint", ""))
    _base64_key(parts.get("accesskey", ""))


def _storage_connection(value: str) -> None:
    parts = connection_parts(value)
    if parts.get("usedevelopmentstorage") == "true":
        return
    endpoint = urlsplit(parts.get("tableendpoint", ""))
    if "tableendpoint" in parts and not endpoint.hostname:
        raise ValueError("no host")
    if "sharedaccesssignature" in parts:
        if "tableendpoint" not in parts:
            raise ValueError("a signature without the address it is for")
    elif re.fullmatch(r"[a-z0-9]{1,24}", parts.get("accountname", "")):
        _base64_key(parts.get("accountkey", ""))
    else:
        raise ValueError("no account")
    plain = "http" in (parts.get("defaultendpointsprotocol"), endpoint.scheme)
    if plain and endpoint.hostname not in LOOPBACK:
        raise ValueError("not https")


def _base64_key(value: str) -> None:
    if not base64.b64decode(value, validate=True):
        raise ValueError("empty")


def _token_scopes(env: Environment) -> tuple[str, ...]:
    scopes = env.words("TOKEN_SCOPES", "chat,voip")
    if not scopes or set(scopes) - set(TOKEN_SCOPES):
        env.complain("TOKEN_SCOPES", f"must be chosen from {', '.join(TOKEN_SCOPES)}")
    return scopes


def _cors_origins(env: Environment) -> tuple[str, ...]:
    origins = (
        env.check("CORS_ORIGINS", word, origin, "exact https origins, separated by commas; no wildcards")
        for word in env.words("CORS_ORIGINS")
    )
    return tuple(value for value in origins if value)


def _rate_limit(env: Environment, name: str, default: str) -> str:
    value = env.text(name, default)
    env.check(name, value, parse_many, "a rate such as 30 per minute")
    return value


def _rate_limit_storage(env: Environment) -> str:
    value = env.text("RATE_LIMIT_STORAGE_URI", "memory://")
    if value != "memory://" and not value.startswith(("redis://", "rediss://")):
        env.complain("RATE_LIMIT_STORAGE_URI", "must be memory:// or redis://…")
    return value


def _application_insights(env: Environment) -> str | None:
    value = env.text("APPLICATIONINSIGHTS_CONNECTION_STRING")
    if value and "instrumentationkey=" not in value.lower():
        env.complain("APPLICATIONINSIGHTS_CONNECTION_STRING", "must hold InstrumentationKey=…")
    return value or None
