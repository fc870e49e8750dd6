"""Settings.from_env, setting by setting: its default, what is good, and what is named as bad."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.settings import CLIENT, KEY, OTHER_TENANT, REQUIRED, TENANT
from trusted_service.app import build_services
from trusted_service.config import Settings
from trusted_service.environment import SettingsError

STORAGE, ACS = "TABLE_STORAGE_CONNECTION_STRING", "COMMUNICATION_SERVICES_CONNECTION_STRING"
ORGANIZATIONS = "https://login.microsoftonline.com/organizations"
SAS = "sv=2022-11-02&ss=t&srt=sco&sp=rwdlau&sig=c2ln"

DEFAULTS: dict[str, Any] = {
    "admin_role": "TrustedService.Admin",
    "api_scope": "access_as_user",
    "api_clients": (),
    "token_scopes": ("chat", "voip"),
    "token_lifetime_minutes": 60,
    "session_idle_minutes": 60,
    "session_absolute_minutes": 480,
    "cors_origins": (),
    "rate_limit_token": "30 per minute",
    "rate_limit_sign_in": "60 per minute",
    "rate_limit_storage_uri": "memory://",
    "trusted_proxy_hops": 0,
    "log_format": "json",
    "applicationinsights_connection_string": None,
}

Read = Callable[[Settings], object]

GOOD: list[tuple[str, str, Read, object]] = [
    ("PUBLIC_URL", "https://a.example", lambda s: s.public_url, "https://a.example"),
    ("PUBLIC_URL", "https://A.example/", lambda s: s.public_url, "https://a.example"),
    ("PUBLIC_URL", "https://a.example:443", lambda s: s.public_url, "https://a.example"),
    ("PUBLIC_URL", "https://a.example:8443", lambda s: s.public_url, "https://a.example:8443"),
    (
        "PUBLIC_URL",
        "http://localhost:8000",
        lambda s: (s.public_url, s.https),
        ("http://localhost:8000", False),
    ),
    ("PUBLIC_URL", "http://127.0.0.1:80", lambda s: s.public_url, "http://127.0.0.1"),
    ("PUBLIC_URL", "http://[::1]:8000", lambda s: s.public_url, "http://[::1]:8000"),
    ("SECRET_KEY", " " + "k" * 32 + "\n", lambda s: s.secret_keys, ("k" * 32,)),
    ("SECRET_KEY_FALLBACKS", f"{'a' * 32}, {'b' * 40},", lambda s: s.secret_keys[1:], ("a" * 32, "b" * 40)),
    ("ENTRA_AUTHORITY", REQUIRED["ENTRA_AUTHORITY"] + "/", lambda s: s.entra.allowed_tenants, (TENANT,)),
    ("ENTRA_AUTHORITY", f"https://x.ciamlogin.com/{TENANT}", lambda s: s.entra.allowed_tenants, (TENANT,)),
    ("ENTRA_ALLOWED_TENANTS", OTHER_TENANT.upper(), lambda s: s.entra.allowed_tenants, (OTHER_TENANT,)),
    ("ENTRA_ALLOWED_TENANTS", f"{TENANT}, {OTHER_TENANT}", lambda s: len(s.entra.allowed_tenants), 2),
    ("ENTRA_CLIENT_ID", CLIENT.upper(), lambda s: s.entra.client_id.lower(), CLIENT),
    ("ENTRA_ADMIN_ROLE", "Boss", lambda s: s.admin_role, "Boss"),
    ("ENTRA_API_SCOPE", "tokens.get", lambda s: s.api_scope, "tokens.get"),
    ("ENTRA_API_CLIENTS", f"{CLIENT},{TENANT}", lambda s: s.api_clients, (CLIENT, TENANT)),
    (ACS, f"endpoint=https://a.example;accesskey={KEY}", lambda s: s.communication_services.endpoint, None),
    (
        ACS,
        f"endpoint=https://localhost:1234/;accesskey={KEY}",
        lambda s: s.communication_services.endpoint,
        None,
    ),
    (ACS, f"AccessKey={KEY};Endpoint=https://a.example/;", lambda s: s.communication_services.endpoint, None),
    (STORAGE, f"AccountName=a;AccountKey={KEY}", lambda s: s.table_storage.endpoint, None),
    (STORAGE, f"TableEndpoint=https://a.table.core.windows.net/;SharedAccessSignature={SAS}", lambda s: 1, 1),
    (STORAGE, "UseDevelopmentStorage=true", lambda s: s.table_storage.endpoint, None),
    ("TOKEN_SCOPES", "voip.join", lambda s: s.token_scopes, ("voip.join",)),
    ("TOKEN_SCOPES", "chat, voip,chat.join , chat.join.limited,voip.join", lambda s: len(s.token_scopes), 5),
    ("TOKEN_LIFETIME_MINUTES", "60", lambda s: s.token_lifetime_minutes, 60),
    ("TABLE_STORAGE_CREATE_TABLES", "", lambda s: s.table_storage_create_tables, True),
    ("TABLE_STORAGE_CREATE_TABLES", "false", lambda s: s.table_storage_create_tables, False),
    ("TABLE_STORAGE_CREATE_TABLES", "True", lambda s: s.table_storage_create_tables, True),
    ("MISSING_IDENTITY_GRACE_SECONDS", "", lambda s: s.missing_identity_grace_seconds, 30),
    ("MISSING_IDENTITY_GRACE_SECONDS", "0", lambda s: s.missing_identity_grace_seconds, 0),
    ("MISSING_IDENTITY_GRACE_SECONDS", "86400", lambda s: s.missing_identity_grace_seconds, 86400),
    ("TOKEN_LIFETIME_MINUTES", " 1440 ", lambda s: s.token_lifetime_minutes, 1440),
    ("SESSION_IDLE_MINUTES", "1", lambda s: s.session_idle_minutes, 1),
    ("SESSION_ABSOLUTE_MINUTES", "1", lambda s: s.session_absolute_minutes, 1),
    ("CORS_ORIGINS", "https://a.example,http://localhost:3000", lambda s: len(s.cors_origins), 2),
    ("CORS_ORIGINS", "https://A.example:443", lambda s: s.cors_origins, ("https://a.example",)),
    ("RATE_LIMIT_TOKEN", "5/minute;100/hour", lambda s: s.rate_limit_token, "5/minute;100/hour"),
    ("RATE_LIMIT_SIGN_IN", "1 per 5 seconds", lambda s: s.rate_limit_sign_in, "1 per 5 seconds"),
    ("RATE_LIMIT_STORAGE_URI", "redis://r:6379/0", lambda s: s.rate_limit_storage_uri, "redis://r:6379/0"),
    (
        "RATE_LIMIT_STORAGE_URI",
        "rediss://:p@r:6380",
        lambda s: s.rate_limit_storage_uri,
        "rediss://:p@r:6380",
    ),
    ("TRUSTED_PROXY_HOPS", "1", lambda s: s.trusted_proxy_hops, 1),
    ("LOG_FORMAT", "text", lambda s: s.log_format, "text"),
    (
        "APPLICATIONINSIGHTS_CONNECTION_STRING",
        f"InstrumentationKey={CLIENT};IngestionEndpoint=https://i.example/",
        lambda s: s.applicationinsights_connection_string is not None,
        True,
    ),
]

BAD: dict[str, list[str]] = {
    "PUBLIC_URL": [
        *(
            "calls.contoso.example",
            "//calls.contoso.example",
            "ftp://a.example",
            "http://a.example",
            "https://",
        ),
        *("https://a.example/path", "https://a.example?q", "https://a.example#f", "https://u:p@a.example"),
        *(
            "https://a.example:0",
            "https://a.example:99999",
            "https://a.example:x",
            "https://a.example:",
            "https://*",
        ),
        *(
            "https://a_b .example",
            "https://a.example, https://b.example",
            "https://a.example/?",
            "javascript:1",
        ),
        *(
            "http://localhost.evil.example",
            "https://[::1",
            "https://a.example\\@b.example",
            "https://é.example",
        ),
    ],
    "SECRET_KEY": ["", "short", "x" * 31, " " * 40, "\udcff" * 40],
    "SECRET_KEY_FALLBACKS": ["short", f"{'a' * 32},short", "x" * 31],
    "ENTRA_AUTHORITY": [
        *(
            "",
            "login.microsoftonline.com",
            f"http://login.microsoftonline.com/{TENANT}",
            "https://login.example",
        ),
        *("https://login.microsoftonline.com/common", "https://login.microsoftonline.com/consumers"),
        *("https://login.microsoftonline.com/Common", ORGANIZATIONS + "/v2.0", f"https:///{TENANT}"),
        *(f"https://login.microsoftonline.com/{TENANT}?x", f"https://u@login.example/{TENANT}"),
        "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad",
    ],
    "ENTRA_CLIENT_ID": ["", "my-app", CLIENT[:-1], f"{{{CLIENT}}}", CLIENT.replace("-", "")],
    "ENTRA_MANAGED_IDENTITY_CLIENT_ID": ["system", CLIENT[:-1]],
    "ENTRA_CLIENT_CERTIFICATE_PATH": ["/nowhere/cert.pem", "/"],
    "ENTRA_ALLOWED_TENANTS": ["contoso.example", f"{TENANT},x", "*"],
    "ENTRA_API_CLIENTS": ["x", f"{CLIENT},*"],
    ACS: [
        *(
            "x",
            "endpoint=https://a.example",
            f"accesskey={KEY}",
            f"endpoint=http://a.example;accesskey={KEY}",
        ),
        *("endpoint=https://a.example;accesskey=!", "endpoint=https://a.example;accesskey="),
        f"endpoint=https://a.example/path;accesskey={KEY}",
    ],
    "COMMUNICATION_SERVICES_ENDPOINT": [
        "a.example",
        "http://a.example",
        "https://a.example/path",
        "https://a b",
    ],
    STORAGE: [
        *(
            "x",
            f"AccountKey={KEY}",
            "AccountName=a",
            "AccountName=a;AccountKey=!",
            "AccountName=a;AccountKey=",
        ),
        *(f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY}", f"SharedAccessSignature={SAS}"),
        *(f"AccountName=a;AccountKey={KEY};{more}" for more in ("TableEndpoint=http://a.example/", "x", "=")),
        *(f"AccountName=a;AccountKey={KEY};{name}=" for name in ("TableEndpoint", "EndpointSuffix")),
        *(f"AccountName={name};AccountKey={KEY}" for name in ("a/b", "a.evil.example/", "a@b")),
        f"AccountName=a;AccountKey={KEY};TableEndpoint=https://",
        f"AccountName=a;AccountKey={KEY};AccountKey={KEY}",
        f"TableEndpoint=http://a.example/;SharedAccessSignature={SAS}",
    ],
    "TABLE_STORAGE_ENDPOINT": ["a.table.core.windows.net", "http://a.table.core.windows.net", "https://"],
    "TOKEN_SCOPES": ["sms", "chat,sms", "CHAT", "chat;voip", ","],
    "TABLE_STORAGE_CREATE_TABLES": ["no", "1", "truee", "null"],
    "MISSING_IDENTITY_GRACE_SECONDS": ["-1", "86401", "30s", "1.5"],
    "TOKEN_LIFETIME_MINUTES": ["59", "1441", "0", "-60", "60.0", "1h", "٦٠", "0x3C", "6e1", "9" * 30],
    "SESSION_IDLE_MINUTES": ["0", "-1", "x", "1.5"],
    "SESSION_ABSOLUTE_MINUTES": ["0", "-1", "x", "1.5"],
    "CORS_ORIGINS": [
        "*",
        "https://*.example",
        "null",
        "https://a.example/path",
        "http://a.example",
        "a.example",
    ],
    "RATE_LIMIT_TOKEN": ["often", "30", "per minute", "-1 per minute", "30 per fortnight"],
    "RATE_LIMIT_SIGN_IN": ["often", "60"],
    "RATE_LIMIT_STORAGE_URI": ["memory", "http://r", "memcached://r", "redis", "redis:r"],
    "TRUSTED_PROXY_HOPS": ["-1", "one", "1.0", "99"],
    "LOG_FORMAT": ["xml", "JSON "[:-1], "json,text"],
    "APPLICATIONINSIGHTS_CONNECTION_STRING": ["x", "IngestionEndpoint=https://i.example/"],
}

ALTERNATIVES = {
    "ENTRA_MANAGED_IDENTITY_CLIENT_ID": "ENTRA_CLIENT_SECRET",
    "ENTRA_CLIENT_CERTIFICATE_PATH": "ENTRA_CLIENT_SECRET",
    "COMMUNICATION_SERVICES_ENDPOINT": ACS,
    "TABLE_STORAGE_ENDPOINT": STORAGE,
}


def environment(name: str, value: str) -> dict[str, str]:
    """All that is required, with this setting, and without the one that it excludes."""
    instead_of = ALTERNATIVES.get(name)
    return {other: text for other, text in REQUIRED.items() if other != instead_of} | {name: value}


def test_defaults_are_those_of_the_contract() -> None:
    settings = Settings.from_env(REQUIRED)
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert settings.entra.allowed_tenants == (TENANT,)
    assert settings.secret_keys == (REQUIRED["SECRET_KEY"],)


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"), GOOD, ids=[f"{n}={v}"[:60] for n, v, _, _ in GOOD]
)
def test_good_value_is_taken(name: str, value: str, read: Read, expected: object) -> None:
    settings = Settings.from_env(environment(name, value))
    assert read(settings) == expected
    build_services(settings)  # what passes the check is what the clients can be made from


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environment(name, value))
    (problem,) = caught.value.problems
    assert problem.startswith(name)


@pytest.mark.parametrize("name", [*DEFAULTS, "secret_key_fallbacks", "entra_allowed_tenants"])
def test_empty_value_counts_as_not_set(name: str) -> None:
    assert Settings.from_env(REQUIRED | {name.upper(): " "}) == Settings.from_env(REQUIRED)


def test_organizations_needs_the_allowed_tenants() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(REQUIRED | {"ENTRA_AUTHORITY": ORGANIZATIONS})
    assert [problem.split()[0] for problem in caught.value.problems] == ["ENTRA_ALLOWED_TENANTS"]
    settings = Settings.from_env(
        REQUIRED | {"ENTRA_AUTHORITY": ORGANIZATIONS, "ENTRA_ALLOWED_TENANTS": TENANT}
    )
    assert settings.entra.allowed_tenants == (TENANT,)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\n"]
)
def test_certificate_file_without_a_certificate_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "certificate.pem"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environment("ENTRA_CLIENT_CERTIFICATE_PATH", str(path)))
    (problem,) = caught.value.problems
    assert problem.startswith("ENTRA_CLIENT_CERTIFICATE_PATH")
