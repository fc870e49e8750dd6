"""Settings.from_env: defaults, valid values, and one message per invalid value, without secrets."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.service import ROOT
from tests.support.settings import (
    CLIENT,
    EXACTLY_ONE,
    KEY,
    NAMES,
    OTHER_TENANT,
    REQUIRED,
    TENANT,
    environment,
    read_problems,
)
from trusted_service.services import Services
from trusted_service.settings import Settings, SettingsError

STORAGE, ACS = "TABLE_STORAGE_CONNECTION_STRING", "COMMUNICATION_SERVICES_CONNECTION_STRING"
LOGIN = "https://login.microsoftonline.com"
INSIGHTS = "APPLICATIONINSIGHTS_CONNECTION_STRING"
OLD, OLDER = "an old key that nobody can guess by now", "an older key that nobody can guess by now"
SAS = "sv=2022-11-02&ss=t&srt=sco&sp=rwdlau&sig=c2ln"

DEFAULTS: dict[str, Any] = {"admin_role": "TrustedService.Admin", "api_scope": "access_as_user"}
DEFAULTS |= {"api_clients": (), "cors_origins": (), "token_scopes": ("chat", "voip")}
DEFAULTS |= {"token_lifetime_minutes": 60, "session_idle_minutes": 60, "session_absolute_minutes": 480}
DEFAULTS |= {"table_storage_create_tables": True, "missing_identity_grace_seconds": 30}
DEFAULTS |= {"rate_limit_token": "30 per minute", "rate_limit_sign_in": "60 per minute"}
DEFAULTS |= {"rate_limit_storage_uri": "memory://", "trusted_proxy_hops": 0, "log_format": "json"}
DEFAULTS |= {"applicationinsights_connection_string": None}

UNCHANGED = {
    "PUBLIC_URL": ["https://a.example", "https://a.example:8443", "http://localhost:8000"],
    "ENTRA_ADMIN_ROLE": ["Boss"],
    "ENTRA_API_SCOPE": ["tokens.get"],
    ACS: [f"endpoint={url};accesskey={KEY}" for url in ("https://a.example", "https://localhost:1234")],
    STORAGE: [f"accountname=a;accountkey={KEY}", f"accountname=a;sharedaccesssignature={SAS}"],
    "RATE_LIMIT_SIGN_IN": ["1 per 5 seconds", "1 per 86400 seconds"],
    "RATE_LIMIT_STORAGE_URI": ["redis://r:6379/0", "rediss://:p@r:6380"],
    "LOG_FORMAT": ["text"],
    "ENTRA_CLIENT_SECRET": ["$a~Qx8%b__vault:op://7"],
}
GOOD: dict[str, dict[str, object]] = {
    "PUBLIC_URL": {
        **dict.fromkeys(("https://A.example/", "https://a.example:443"), "https://a.example"),
        "http://127.0.0.1:80": "http://127.0.0.1",
        "http://[::1]:8000": "http://[::1]:8000",
    },
    "SECRET_KEY": {f" {OLD}\n": (OLD,)},
    "SECRET_KEY_FALLBACKS": {f"{OLD}, {OLDER},": (REQUIRED["SECRET_KEY"], OLD, OLDER)},
    "ENTRA_ALLOWED_TENANTS": {
        OTHER_TENANT.upper(): (OTHER_TENANT,),
        f"{TENANT}, {OTHER_TENANT}": (TENANT, OTHER_TENANT),
    },
    "ENTRA_CLIENT_ID": {CLIENT.upper(): CLIENT},
    "ENTRA_API_CLIENTS": {f"{CLIENT},{TENANT}": (CLIENT, TENANT)},
    "TABLE_STORAGE_ENDPOINT": {"https://localhost:1/acc/": "https://localhost:1/acc"},
    "TOKEN_SCOPES": {"voip.join": ("voip.join",), "chat.join ,, voip,voip": ("chat.join", "voip")},
    "TOKEN_LIFETIME_MINUTES": {"60": 60, " 1440 ": 1440},
    "TABLE_STORAGE_CREATE_TABLES": {"false": False, "True": True},
    "MISSING_IDENTITY_GRACE_SECONDS": {"0": 0, "86400": 86400},
    "SESSION_IDLE_MINUTES": {"1": 1},
    "SESSION_ABSOLUTE_MINUTES": {"1": 1},
    "CORS_ORIGINS": {
        "https://A.example:443": ("https://a.example",),
        "https://a.b,http://localhost:3000": ("https://a.b", "http://localhost:3000"),
    },
    "RATE_LIMIT_TOKEN": {
        "5/minute;100/hour;9 per 10 seconds": "9 per 10 seconds;5 per 60 seconds;100 per 3600 seconds",
    },
    "TRUSTED_PROXY_HOPS": {"1": 1},
}
MEMBERS = {
    "ENTRA_ADMIN_ROLE": "admin_role",
    "ENTRA_API_SCOPE": "api_scope",
    "ENTRA_API_CLIENTS": "api_clients",
    **dict.fromkeys(("SECRET_KEY", "SECRET_KEY_FALLBACKS"), "secret_keys"),
}
"""Members of Settings whose names differ from their lower-cased variable names."""

BAD_URLS = """
    calls.contoso.example //calls.contoso.example ftp://a.example http://a.example https:// javascript:1
    https://a.example/path https://a.example?q https://a.example#f https://u:p@a.example https://*
    https://a.example:0 https://a.example:99999 https://a.example:x https://a.example: https://a.example/?
    http://localhost.evil.example https://[::1 https://a.example\\@b.example https://é.example
"""
WITH_KEY = f"AccountName=a;AccountKey={KEY}"

BAD = {
    "PUBLIC_URL": [*BAD_URLS.split(), "https://a_b .example", "https://a.example, https://b.example"],
    "SECRET_KEY": ["", "short", OLD[:31], " " * 40, "\udcff" * 40],
    "SECRET_KEY_FALLBACKS": ["short", f"{OLD},short", "x" * 31],
    "ENTRA_AUTHORITY": [
        *("", "login.microsoftonline.com", "https://login.example", f"https:///{TENANT}"),
        *(f"http://login.microsoftonline.com/{TENANT}", f"https://u@login.example/{TENANT}"),
        *(f"{LOGIN}/{name}" for name in ("common", "consumers", "Common", f"{TENANT}?x")),
        *(f"{LOGIN}/{name}" for name in ("organizations/v2.0", "9188040d-6c67-4c5b-b112-36a304b66dad")),
    ],
    "ENTRA_CLIENT_ID": ["", "my-app", CLIENT[:-1], f"{{{CLIENT}}}", CLIENT.replace("-", "")],
    "ENTRA_MANAGED_IDENTITY_CLIENT_ID": ["system", CLIENT[:-1]],
    "ENTRA_CLIENT_CERTIFICATE_PATH": ["/nowhere/cert.pem", "/"],
    "ENTRA_ALLOWED_TENANTS": ["contoso.example", f"{TENANT},x", "*", ","],
    "ENTRA_API_CLIENTS": ["x", f"{CLIENT},*"],
    ACS: [
        *("x", "endpoint=https://a.example", f"accesskey={KEY}"),
        *(f"endpoint={url};accesskey={KEY}" for url in ("http://a.example", "https://a.example/path")),
        *("endpoint=https://a.example;accesskey=!", "endpoint=https://a.example;accesskey="),
    ],
    "COMMUNICATION_SERVICES_ENDPOINT": [
        *("a.example", "http://a.example", "https://a.example/path", "https://a b"),
    ],
    STORAGE: [
        *("x", f"AccountKey={KEY}", f"SharedAccessSignature={SAS}"),
        *("AccountName=a", "AccountName=a;AccountKey=!", "AccountName=a;AccountKey="),
        f"DefaultEndpointsProtocol=http;{WITH_KEY}",
        *(
            f"{WITH_KEY};{more}"
            for more in ("x", "=", f"AccountKey={KEY}", "TableEndpoint=http://a.example/")
        ),
        *(f"{WITH_KEY};{more}" for more in ("TableEndpoint=", "EndpointSuffix=", "TableEndpoint=https://")),
        *(f"AccountName={name};AccountKey={KEY}" for name in ("a/b", "a.evil.example/", "a@b")),
        f"TableEndpoint=http://a.example/;SharedAccessSignature={SAS}",
        f"TableEndpoint=https://a.example/;AccountKey={KEY}",
    ],
    "TABLE_STORAGE_ENDPOINT": ["a.table.core.windows.net", "http://a.table.core.windows.net", "https://"],
    "TOKEN_SCOPES": ["sms", "chat,sms", "chat;voip", ","],
    "TABLE_STORAGE_CREATE_TABLES": ["no", "1", "truee", "null"],
    "MISSING_IDENTITY_GRACE_SECONDS": ["-1", "86401", "30s", "1.5"],
    "TOKEN_LIFETIME_MINUTES": ["59", "1441", "0", "-60", "60.0", "1h", "٦٠", "0x3C", "6e1", "9" * 30],
    **{key: ["0", "-1", "x", "1.5"] for key in ("SESSION_IDLE_MINUTES", "SESSION_ABSOLUTE_MINUTES")},
    "CORS_ORIGINS": [
        *("*", "null", "https://*.example", "http://a.example", "https://a.example/x", "a.example"),
    ],
    "RATE_LIMIT_TOKEN": ["often", "30", "per minute", "-1 per minute", "30 per fortnight"],
    "RATE_LIMIT_SIGN_IN": ["often", "60", "0 per minute", "9 per day;00/hour", "10 per 0 minutes"],
    "RATE_LIMIT_ACCOUNT": ["1 per 99999999 years", "1 per month", "1 per day;9 per 25 hours"],
    "RATE_LIMIT_STORAGE_URI": ["memory", "http://r", "memcached://r", "redis", "redis:r"],
    "TRUSTED_PROXY_HOPS": ["-1", "one", "1.0", "99"],
    "LOG_FORMAT": ["xml", "json,text"],
    INSIGHTS: ["x", "IngestionEndpoint=https://i.example/"],
}

ALTERNATIVES = {
    "ENTRA_CLIENT_CERTIFICATE_PATH": "/nowhere",
    "ENTRA_MANAGED_IDENTITY_CLIENT_ID": CLIENT,
    "COMMUNICATION_SERVICES_ENDPOINT": "https://acs.example",
    "TABLE_STORAGE_ENDPOINT": "https://acc.table.core.windows.net",
}
MARK = "canary"


def test_defaults_match_the_contract() -> None:
    settings = Settings.from_env(REQUIRED)
    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert settings.entra_allowed_tenants == (TENANT,)
    assert settings.secret_keys == (REQUIRED["SECRET_KEY"],)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, value) for name in UNCHANGED for value in UNCHANGED[name]]
    + [(name, value, GOOD[name][value]) for name in GOOD for value in GOOD[name]],
)
def test_valid_value_is_accepted(name: str, value: str, expected: object) -> None:
    settings = Settings.from_env(environment(name, value))
    assert getattr(settings, MEMBERS.get(name, name.lower())) == expected
    Services(settings)  # the clients can be built from every valid value


def test_urls_determine_https_and_allowed_tenants() -> None:
    for url, https in (("https://a.example", True), ("http://localhost:8000", False)):
        assert Settings.from_env(REQUIRED | {"PUBLIC_URL": url}).https is https
    for authority in (REQUIRED["ENTRA_AUTHORITY"] + "/", f"https://x.ciamlogin.com/{TENANT}"):
        settings = Settings.from_env(REQUIRED | {"ENTRA_AUTHORITY": authority})
        assert settings.entra_allowed_tenants == (TENANT,)
    organizations = REQUIRED | {"ENTRA_AUTHORITY": f"{LOGIN}/organizations"}
    (problem,) = read_problems(organizations)
    assert problem.startswith("ENTRA_ALLOWED_TENANTS ")
    settings = Settings.from_env(organizations | {"ENTRA_ALLOWED_TENANTS": TENANT})
    assert settings.entra_allowed_tenants == (TENANT,)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_invalid_value_names_its_setting(name: str, value: str) -> None:
    (problem,) = read_problems(environment(name, value))
    assert problem.startswith(name)


def test_empty_value_counts_as_unset() -> None:
    for name in set(NAMES) - set(REQUIRED):
        assert Settings.from_env(REQUIRED | {name: " "}) == Settings.from_env(REQUIRED)


def test_unusable_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / MARK
    for content in (b"", b" \n", b"\xff" * 40):
        path.write_bytes(content)
        (problem,) = read_problems(REQUIRED | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(path)})
        assert problem.startswith("SECRET_KEY_FILE")
    (problem,) = read_problems(REQUIRED | {"SECRET_KEY": "", "SECRET_KEY_FILE": str(tmp_path / "none")})
    assert problem.startswith("SECRET_KEY_FILE")
    path.write_text(OLD)
    (problem,) = read_problems(REQUIRED | {"SECRET_KEY_FILE": str(path)})
    assert problem.startswith("SECRET_KEY is given twice: SECRET_KEY and SECRET_KEY_FILE")


def test_all_missing_settings_are_reported() -> None:
    for name in REQUIRED:
        (problem,) = read_problems({other: value for other, value in REQUIRED.items() if other != name})
        assert name in problem
        assert "is missing" in problem
    problems = read_problems({})
    for name in [*REQUIRED, *ALTERNATIVES]:
        assert any(name in problem for problem in problems), name
    assert all("is missing" in problem for problem in problems)


def test_all_invalid_settings_are_reported_without_values() -> None:
    any_text = {"ENTRA_ADMIN_ROLE", "ENTRA_API_SCOPE", "ENTRA_CLIENT_SECRET"}
    chosen = set(NAMES) - any_text - set(ALTERNATIVES) | {"ENTRA_MANAGED_IDENTITY_CLIENT_ID"}
    problems = read_problems({name: f"{MARK}-{number}" for number, name in enumerate(chosen)})
    assert {problem.split()[0] for problem in problems} == chosen
    assert len(problems) == len(chosen)
    assert MARK not in "\n".join(problems)


@pytest.mark.parametrize("names", EXACTLY_ONE, ids=" or ".join)
def test_exactly_one_alternative_is_accepted(names: tuple[str, ...]) -> None:
    given = {name: (REQUIRED | ALTERNATIVES)[name] for name in names}
    (problem,) = read_problems(REQUIRED | given)
    for name in names:
        assert name in problem
        if name != "ENTRA_CLIENT_CERTIFICATE_PATH":  # this file does not exist
            Settings.from_env(environment(name, given[name]))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_read_from_file(tmp_path: Path, name: str) -> None:
    path, text = tmp_path / "value", REQUIRED.get(name, MARK)
    path.write_text(f"{text}\r\n")
    variables = {other: value for other, value in REQUIRED.items() if other != name}
    from_file = outcome(variables | {f"{name}_FILE": str(path)})
    assert from_file == outcome(variables | {name: text})
    assert from_file != outcome(variables)


def outcome(variables: dict[str, str]) -> Settings | list[str]:
    """The settings, or the problems with them."""
    try:
        return Settings.from_env(variables)
    except SettingsError as error:
        return error.problems


def test_settings_repr_contains_no_secret() -> None:
    secret = f"{MARK}-0123456789-zyxwvutsrqponmlkj"
    keys = dict.fromkeys(("SECRET_KEY", "SECRET_KEY_FALLBACKS", "ENTRA_CLIENT_SECRET"), secret)
    variables = REQUIRED | keys | {"RATE_LIMIT_STORAGE_URI": f"redis://:{MARK}@redis.example"}
    text = repr(Settings.from_env(variables))
    assert MARK not in text
    assert KEY not in text
    assert TENANT in text


@pytest.mark.parametrize("document", [".env.example", "docs/reference.md"])
def test_every_setting_is_documented(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert [name for name in NAMES if name not in text] == []
