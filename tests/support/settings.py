"""The settings of the contract's section 2, and valid values of those that are required."""

import base64

import pytest

from trusted_service.settings import Settings, SettingsError

TENANT = "5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001"
OTHER_TENANT = "9f8e7d6c-5b4a-4321-8fed-cba987654321"
CLIENT = "11111111-2222-4333-8444-555555555555"
KEY = base64.b64encode(b"the key of an account that is not there").decode()

OWN_SETTINGS = {
    "PUBLIC_URL": "http://localhost:8000",
    # pragma: allowlist nextline secret (opens nothing)
    "SECRET_KEY": "only-for-tests-0123456789abcdefgh",
}
"""The settings that a service needs besides those of the local Azure."""

UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
"""Turns coverage off in a program, because it nearly doubles the work of a request."""

REQUIRED = {
    "PUBLIC_URL": "https://calls.contoso.example",
    # pragma: allowlist nextline secret (opens nothing)
    "SECRET_KEY": "Only-For-Tests-9876543210-zyxwvut",
    "ENTRA_AUTHORITY": f"https://login.microsoftonline.com/{TENANT}",
    "ENTRA_CLIENT_ID": CLIENT,
    # pragma: allowlist nextline secret (opens nothing)
    "ENTRA_CLIENT_SECRET": "the-secret-of-the-app",
    "COMMUNICATION_SERVICES_CONNECTION_STRING": f"endpoint=https://acs.example/;accesskey={KEY}",
    "TABLE_STORAGE_CONNECTION_STRING": (
        f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={KEY};EndpointSuffix=core.windows.net"
    ),
}

NAMES = [
    *("PUBLIC_URL", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "ENTRA_AUTHORITY", "ENTRA_CLIENT_ID"),
    *("ENTRA_CLIENT_SECRET", "ENTRA_CLIENT_CERTIFICATE_PATH", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"),
    *("ENTRA_ALLOWED_TENANTS", "ENTRA_ADMIN_ROLE", "ENTRA_API_SCOPE", "ENTRA_API_CLIENTS"),
    *("COMMUNICATION_SERVICES_CONNECTION_STRING", "COMMUNICATION_SERVICES_ENDPOINT"),
    *("TABLE_STORAGE_CONNECTION_STRING", "TABLE_STORAGE_ENDPOINT"),
    *("TOKEN_SCOPES", "TOKEN_LIFETIME_MINUTES", "SESSION_IDLE_MINUTES", "SESSION_ABSOLUTE_MINUTES"),
    *("TABLE_STORAGE_CREATE_TABLES", "MISSING_IDENTITY_GRACE_SECONDS"),
    *("CORS_ORIGINS", "RATE_LIMIT_TOKEN", "RATE_LIMIT_ACCOUNT", "RATE_LIMIT_SIGN_IN"),
    *("RATE_LIMIT_STORAGE_URI", "TRUSTED_PROXY_HOPS", "LOG_FORMAT", "APPLICATIONINSIGHTS_CONNECTION_STRING"),
    *("PORT", "WEB_CONCURRENCY"),
]

EXACTLY_ONE = [
    ("ENTRA_CLIENT_SECRET", "ENTRA_CLIENT_CERTIFICATE_PATH", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"),
    ("COMMUNICATION_SERVICES_CONNECTION_STRING", "COMMUNICATION_SERVICES_ENDPOINT"),
    ("TABLE_STORAGE_CONNECTION_STRING", "TABLE_STORAGE_ENDPOINT"),
]


def environment(name: str, value: str, *, of: str = "") -> dict[str, str]:
    """The required settings plus this variable (`of` a setting), without those that it excludes."""
    excluded = {other for group in EXACTLY_ONE if (of or name) in group for other in group} | {of}
    return {other: text for other, text in REQUIRED.items() if other not in excluded} | {name: value}


def read_problems(variables: dict[str, str]) -> list[str]:
    """Return the problems that Settings.from_env reports for these variables."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(variables)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems
