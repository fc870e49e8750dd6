"""The web app of Bicep has the settings of the service, all of them, and runs gunicorn as documented."""

import re
from typing import Any

import pytest

from tests.infra.bicep import ROOT, template
from tests.support.settings import CLIENT, TENANT
from trusted_service.settings import FIELDS, Settings

PLATFORM = {
    "SCM_DO_BUILD_DURING_DEPLOYMENT": "App Service installs requirements.txt",
    "WEBSITE_WARMUP_PATH": "what App Service requests before an instance gets requests",
    "WEBSITES_CONTAINER_STOP_TIME_LIMIT": "how long App Service waits for gunicorn to end",
}
KEYS = """
    ENTRA_CLIENT_SECRET ENTRA_CLIENT_CERTIFICATE_PATH COMMUNICATION_SERVICES_CONNECTION_STRING
    TABLE_STORAGE_CONNECTION_STRING AZURE_CLIENT_ID
"""
"""The identity that ENTRA_MANAGED_IDENTITY_CLIENT_ID names is used instead."""
DEFAULTS = """
    PORT WEB_CONCURRENCY LOG_FORMAT SECRET_KEY_FALLBACKS CORS_ORIGINS TOKEN_SCOPES TOKEN_LIFETIME_MINUTES
    ENTRA_ALLOWED_TENANTS ENTRA_ADMIN_ROLE ENTRA_API_SCOPE ENTRA_API_CLIENTS
    SESSION_IDLE_MINUTES SESSION_ABSOLUTE_MINUTES MISSING_IDENTITY_GRACE_SECONDS
    RATE_LIMIT_TOKEN RATE_LIMIT_ACCOUNT RATE_LIMIT_SIGN_IN
    RETENTION_AUDIT_DAYS RETENTION_USAGE_DAYS RETENTION_JOBS_DAYS
"""
"""Suit App Service; the parameter `settings` changes them."""
OBJECT_ID = "22222222-3333-4444-8555-666666666666"
RESOLVED = {
    "origin": "https://app-x.azurewebsites.net",
    "@Microsoft.KeyVault(SecretUri=${keyVault.outputs.keyUri})": f"{CLIENT}{OBJECT_ID}",
    "${environment().authentication.loginEndpoint}${tenant().tenantId}": f"https://login.microsoftonline.com/{TENANT}",
    "entraClientId": CLIENT,
    "identity.properties.clientId": OBJECT_ID,
    "communicationAccess.outputs.endpoint": "https://acs-x.europe.communication.azure.com",
    "storage.outputs.endpoint": "https://stx.table.core.windows.net/",
    "instances > 1 ? redis!.outputs.rateLimitStorageUri : 'memory://'": (
        f"rediss://{OBJECT_ID}@redis-x.westeurope.redis.azure.net:10000"
    ),
    "monitoring.outputs.connectionString": (
        f"InstrumentationKey={OBJECT_ID};IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/"
    ),
}
"""What Azure makes of each expression."""


@pytest.fixture(scope="module")
def app_settings() -> dict[str, str]:
    [own] = template("main.bicep").objects_with("PUBLIC_URL")
    [fixed] = template("web.bicep").objects_with("SCM_DO_BUILD_DURING_DEPLOYMENT")
    return {name: str(value) for name, value in (own | fixed).items()}


@pytest.fixture(scope="module")
def app() -> Any:
    return template("web.bicep").resources["app"][1]["properties"]


def test_app_settings_are_the_services(app_settings: dict[str, str]) -> None:
    assert app_settings.keys() - FIELDS.keys() == PLATFORM.keys()


def test_settings_are_in_bicep_or_left_out(app_settings: dict[str, str]) -> None:
    assert FIELDS.keys() - app_settings.keys() == set(KEYS.split() + DEFAULTS.split())


def test_service_accepts_the_app_settings(app_settings: dict[str, str]) -> None:
    resolved = {name: RESOLVED.get(value, value) for name, value in app_settings.items()}
    settings = Settings.from_env(resolved)
    assert settings.warnings(resolved) == []
    assert settings.trusted_proxy_hops == 1
    assert not settings.table_storage_create_tables
    assert settings.secret_key
    used = {value for value in app_settings.values() if value in RESOLVED}
    assert used == RESOLVED.keys()


def test_redis_address_is_the_one_of_bicep() -> None:
    pattern = template("redis.bicep").outputs["rateLimitStorageUri"].strip("'")
    example = next(value for value in RESOLVED.values() if value.startswith("rediss:"))
    assert re.fullmatch(re.sub(r"\$\{.*?\}", "[^@:/]+", pattern), example)


def test_web_app_runs_gunicorn_as_documented(app: Any) -> None:
    expected = {
        "appCommandLine": "exec gunicorn -c gunicorn.conf.py wsgi:app",
        "healthCheckPath": "/healthz",
        "alwaysOn": True,
        "http20Enabled": True,
        "minTlsVersion": "1.2",
        "scmMinTlsVersion": "1.2",
        "ftpsState": "Disabled",
    }
    assert expected.items() <= app["siteConfig"].items()
    assert template("web.bicep").resources["app"][1]["identity"]["type"] == "UserAssigned"


def test_app_service_waits_for_requests_under_way(app_settings: dict[str, str]) -> None:
    found = re.search(r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert found
    # A worker then has up to 4 s for its delayed tasks.
    assert int(app_settings["WEBSITES_CONTAINER_STOP_TIME_LIMIT"]) >= int(found[1]) + 10


def test_workspace_gets_no_requests_and_lines() -> None:
    assert re.findall(r"category: '(\w+)'", template("web.bicep").source) == ["AppServicePlatformLogs"]
