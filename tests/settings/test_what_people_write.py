"""Values as portals, editors, shells and pipelines write them: they work, or the start names the setting."""

import codecs
import os
from pathlib import Path

import pytest
from azure.monitor.opentelemetry.exporter._connection_string_parser import ConnectionStringParser

from tests.support.local_azure import LocalAzure
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
from trusted_service.settings import Settings

SECRET = REQUIRED["SECRET_KEY"]
ACS, STORAGE = "COMMUNICATION_SERVICES_CONNECTION_STRING", "TABLE_STORAGE_CONNECTION_STRING"
REDIS, INSIGHTS = "RATE_LIMIT_STORAGE_URI", "APPLICATIONINSIGHTS_CONNECTION_STRING"
LOGIN, TABLES = "https://login.microsoftonline.com", "https://acc.table.core.windows.net"
MARK = "canary"
# pragma: allowlist nextline secret
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEF0123456789"

ACS_FORM, INSIGHTS_FORM = f"endpoint=https://contoso.example;accesskey={KEY}", f"instrumentationkey={CLIENT}"
STORAGE_FORM = f"defaultendpointsprotocol=https;accountname=acc;accountkey={KEY}"
WORKS: dict[tuple[str, object], list[str]] = {
    (ACS, ACS_FORM): [
        f"endpoint=https://Contoso.Example:443/;accesskey={KEY}",
        f" EndPoint = https://contoso.example ; AccessKey = {KEY} ;; ",
        f'"endpoint=HTTPS://contoso.example/;accesskey={KEY}"',
        f"accesskey={KEY};\r\nendpoint=https://contoso.example/",
    ],
    (STORAGE, f"{STORAGE_FORM};endpointsuffix=core.windows.net"): [
        f"DefaultEndpointsProtocol=https; AccountName=acc; AccountKey={KEY}; EndpointSuffix=core.windows.net",
        f"'DefaultEndpointsProtocol=HTTPS;accountname=Acc;ACCOUNTKEY={KEY};EndpointSuffix=Core.Windows.Net;'",
    ],
    (STORAGE, f"accountname=acc;accountkey={KEY};tableendpoint={TABLES}"): [
        f"AccountName=acc;AccountKey={KEY};TableEndpoint=https://ACC.Table.core.windows.net:443/",
    ],
    (STORAGE, f"tableendpoint={TABLES};sharedaccesssignature=sv=2&sig=c2ln"): [
        f"TableEndpoint={TABLES}/;SharedAccessSignature=?sv=2&sig=c2ln",
    ],
    (STORAGE, "UseDevelopmentStorage=true"): ["usedevelopmentstorage = True;"],
    ("TABLE_STORAGE_ENDPOINT", TABLES): [f"“{TABLES}/”", "https://Acc.Table.Core.Windows.Net:443"],
    ("TABLE_STORAGE_ENDPOINT", "https://tables.web.example"): ["https://tables.web.example"],
    (INSIGHTS, INSIGHTS_FORM): [f"InstrumentationKey={CLIENT.upper()};", f'"InstrumentationKey = {CLIENT}"'],
    (INSIGHTS, f"{INSIGHTS_FORM};ingestionendpoint=https://eu.in.example/"): [
        f"InstrumentationKey={CLIENT}; IngestionEndpoint=https://EU.in.example",
    ],
    (REDIS, "rediss://:a%2Fb%3D@cache.example:6380/0"): ["RedisS://:a%2Fb%3D@cache.example:6380/0"],
    (REDIS, "rediss://user:a@b@c_d/?socket_timeout=3"): ["rediss://user:a@b@c_d/?socket_timeout=3"],
    (REDIS, f"rediss://{TENANT}@c.example:10000"): [f"rediss://{TENANT.upper()}@c.example:10000"],
    (REDIS, "memory://"): ["Memory://"],
    ("RATE_LIMIT_TOKEN", "30 per 60 seconds"): ["30 Per Minute;", "30/minute"],
    ("COMMUNICATION_SERVICES_ENDPOINT", "https://a.example"): ["HTTPS://A.example:0443/"],
    ("ENTRA_AUTHORITY", f"{LOGIN}/{TENANT}"): [f"HTTPS://Login.MicrosoftOnline.com:443/{TENANT.upper()}/"],
    ("ENTRA_CLIENT_ID", CLIENT): [
        f"\u00a0{CLIENT.upper()}\u200b",
        f"\u2018{CLIENT}\u2019",
        f"\ufeff{CLIENT}\r",
    ],
    ("ENTRA_API_SCOPE", "access_as_user"): [
        *(f"{of}/access_as_user" for of in (f"api://{CLIENT}", "https://calls.example", CLIENT)),
    ],
    ("ENTRA_ALLOWED_TENANTS", (TENANT, OTHER_TENANT)): [
        *(f'"{TENANT}", "{OTHER_TENANT}"', f"{TENANT}\r\n{OTHER_TENANT}"),
    ],
    ("CORS_ORIGINS", ("capacitor://localhost", "http://localhost", "http://tauri.localhost", "app://-")): [
        "Capacitor://localhost/,http://localhost:80/,http://tauri.localhost,app://-",
    ],
    ("TOKEN_LIFETIME_MINUTES", 90): ['"90"', "90\u00a0", "090"],
    ("TABLE_STORAGE_CREATE_TABLES", False): ["FALSE", "'False'"],
    ("WEB_CONCURRENCY", 4): [" 4 "],
    ("LOG_FORMAT", "text"): ["Text", "TEXT"],
    ("TOKEN_SCOPES", ("chat", "voip")): ["CHAT,VoIP,chat"],
    ("SECRET_KEY", "keys$NAME%x%__y__a:b[c]{d}(e)<f>"): ["keys$NAME%x%__y__a:b[c]{d}(e)<f>"],
    ("SECRET_KEY", 'pQ:x//8d;U=z["k2b0-_;fV&m1w~s9T;'): ['pQ:x//8d;U=z["k2b0-_;fV&m1w~s9T;'],
    ("TABLE_STORAGE_ENDPOINT", "https://azurite:10002/acc"): ["https://Azurite:10002/acc/"],
}
PORTAL = f"rediss://cache.example:6380,password={MARK}=,ssl=True,abortConnect=False"
WITH_KEY = f"AccountName=acc;AccountKey={KEY}"
NAMED: dict[str, dict[str, list[str]]] = {
    REDIS: {
        "percent-encoded (/ as %2F": [
            *(f"rediss://:{MARK}/VZ=@cache.example:6380/0", f"rediss://:12/{MARK}@cache.example:6380/0"),
            *(f"rediss://:{MARK}#a@c.example", f"rediss://:{MARK}?a@c.example", f"rediss://:[{MARK}@c"),
            f"redis://:{MARK} x@c.example",
        ],
        "must be rediss:// where a managed identity connects": [f"redis://{CLIENT}@c.example"],
        "must be memory:// or rediss://": [
            *("rediss://bob@c.example", f"rediss://c.example?username={CLIENT}"),
            *(PORTAL, PORTAL[9:], PORTAL.replace(":6380", ""), "redis://", "redis://c.example/canary"),
            *("redis://c.example:0", "rediss://c.example?ssl_ca_certs=/nowhere/canary"),
            *("redis://c.example?db=x", f"redis://c.example?{MARK}=1", f"unix:///{MARK}"),
        ],
        "certificate checks": [
            *("rediss://c.example?ssl_cert_reqs=none", "rediss://c.example?ssl_cert_reqs=optional"),
            "rediss://c.example?ssl_check_hostname=f",
        ],
    },
    STORAGE: {
        "AccountName=": [
            *(REQUIRED[ACS], f'AccountName=acc;AccountKey="{KEY}', f"{WITH_KEY} x"),
            *(f"{WITH_KEY};EndpointSuffix=.core.windows.net", "AccountName=acc;SharedAccessSignature=sv=2"),
        ],
        "expired": ["AccountName=acc;SharedAccessSignature=se=2020-01-01T00:00:00Z&sig=c2ln"],
        "endpoint of tables": [
            *(
                f"{WITH_KEY};TableEndpoint=https://acc.blob.core.windows.net/",
                f"{WITH_KEY};TableEndpoint={TABLES}/x",
            ),
            f"{WITH_KEY};EndpointSuffix=table.core.windows.net",
        ],
    },
    "TABLE_STORAGE_ENDPOINT": {
        "endpoint of tables": ["https://acc.blob.core.windows.net", f"{TABLES}/identities", f"{TABLES}/acc/"],
        "no connection string": [REQUIRED[STORAGE]],
    },
    ACS: {
        "endpoint=": [
            *(REQUIRED[STORAGE], f"endpoint=acs.example;accesskey={KEY}", "https://a.example"),
            *(f"endpoint=https://a.example;accesskey={MARK}", f"endpoint=https://a..b;accesskey={KEY}"),
        ],
    },
    "COMMUNICATION_SERVICES_ENDPOINT": {"no connection string": [REQUIRED[ACS]]},
    INSIGHTS: {
        "InstrumentationKey=<GUID>;IngestionEndpoint=https": [
            *("InstrumentationKey=contoso", CLIENT, f"InstrumentationKey={CLIENT};Authorization=aad"),
            *(f"InstrumentationKey={CLIENT};IngestionEndpoint=eu", f"InstrumentationKey={CLIENT};a=b=c"),
        ],
    },
    "ENTRA_AUTHORITY": {
        "External ID": ["https://contoso.ciamlogin.com/", "https://contoso.ciamlogin.com/organizations"],
        "without /v2.0": [f"{LOGIN}/{TENANT}/v2.0", f"{LOGIN}/{TENANT}/oauth2/v2.0/authorize"],
    },
    "ENTRA_API_SCOPE": {"one scope": [f"api://{CLIENT}/.default", "a b", f"api://{CLIENT}/"]},
    "ENTRA_ADMIN_ROLE": {"without blanks": ["Trusted Service Admin"]},
    "ENTRA_CLIENT_SECRET": {"one line": ["with blank", "two\nlines"]},
    "CORS_ORIGINS": {
        "exact origins": [
            *("null", "*", "file://", "capacitor://localhost/index.html", "capacitor:localhost"),
            *("javascript://x", "app://", "ftp://a.example"),
        ],
    },
    "SECRET_KEY": {
        "random": [
            *("x" * 40, "abc" * 11, "0123456789" * 4, "ab" * 16 + "a", "0110" * 5 + "1101" * 3),
            *("change-me-change-me-0123456789-abc", "dev-secret-key-change-in-production"),
            *("your-very-secret-key-goes-in-here", "only-for-development-do-not-use-this", ALPHABET),
            *(
                'python3 -c "import secrets; print(secrets.token_urlsafe(48))"',
                "openssl rand -base64 48 # canary",
            ),
            *("https://canary.example/keys/secret-key/1", "bws://canary/of/some/other/program/key"),
            *("kv.vault.azure.net/secrets/canary/0123456789", "/run/secrets/canary_of_the_trusted_service"),
            # pragma: allowlist nextline secret
            *("head -c 32 /dev/urandom | base64 # canary", "qwertyuiopasdfghjklzxcvbnm1234567890"),
        ],
    },
    "SECRET_KEY_FALLBACKS": {
        "random": [f"{SECRET},{'x' * 40}", f"{SECRET},%{'CANARY_KEY_' * 4}1%"],
        "separated by commas": [
            *(f'["{SECRET}"]', f"['{SECRET}', '{SECRET}2']", f"{SECRET};{SECRET}2", f"{SECRET} | {SECRET}2"),
            f'[ "{SECRET} a b"\n]',
        ],
    },
    "ENTRA_ALLOWED_TENANTS": {"separated by commas": ["*", f"{TENANT};{OTHER_TENANT}", f'["{TENANT}"]']},
    "PORT": {"65535": ["0", "http"]},
    "WEB_CONCURRENCY": {"256": ["0", "-1", "two"]},
}
REFERENCES = [
    "@Microsoft.KeyVault(SecretUri=https://kv.example/secrets/canary/)",
    '"@microsoft.keyvault(VaultName=canary)"',
    " @Microsoft.AppConfiguration(Endpoint=https://canary; Key=k)",
    "a,@ Microsoft.KeyVault (canary)",
    *("${CANARY}", "$(canary)", "#{canary}#", "{{ canary }}", "<your canary secret>"),
    *("$CANARY", "$env:CANARY", "%CANARY%", "__CANARY__", "[parameters('canary')]", "[variables('canary')]"),
    *("@AppSettingReference(canary)", "op://canary/item/field", "vault:secret/data/canary#key"),
    *(
        "ref+azurekeyvault://canary/key",
        "arn:aws:secretsmanager:eu-west-1:1:secret:canary",
        "secretref:canary",
    ),
    "keyvaultref:https://canary.vault.azure.net/secrets/key,identityref:system",
    *("https://canary.vault.azure.net/secrets/secret-key/0123", "https://canary.vault.azure.cn/secrets/key"),
    *(
        "ssm:/canary/secret-key",
        "***",
        "\u2022" * 40,
        "(sensitive value)",
        "(known after apply)",
        "Hidden value. Click to show value",
    ),
    *(f"{LOGIN}/00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"),
]


def assert_named(problems: list[str], name: str, phrase: str) -> None:
    assert len(problems) == 1
    assert problems[0].startswith(f"{name} ")
    assert phrase in problems[0]
    assert MARK not in problems[0].lower()
    assert "\n" not in problems[0]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(key[0], value, key[1]) for key, values in WORKS.items() for value in values],
)
def test_what_people_write_works(name: str, value: str, expected: object, tmp_path: Path) -> None:
    variables = environment(name, value)
    settings = Settings.from_env(variables)
    Services(settings)  # the clients take it, too
    assert getattr(settings, {"ENTRA_API_SCOPE": "api_scope"}.get(name, name.lower())) == expected
    # A file can hold a mark of its encoding, too.
    for content in (codecs.BOM_UTF8 + f"{value}\r\n".encode(), f"{value}\n".encode("utf-16")):
        (tmp_path / "value").write_bytes(content)
        from_file = {other: text for other, text in variables.items() if other != name}
        assert Settings.from_env(from_file | {f"{name}_FILE": f'"{tmp_path}/value"'}) == settings


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [(name, value, phrase) for name in NAMED for phrase in NAMED[name] for value in NAMED[name][phrase]],
)
def test_what_can_never_work_is_named(name: str, value: str, phrase: str) -> None:
    assert_named(read_problems(environment(name, value)), name, phrase)


@pytest.mark.parametrize("value", REFERENCES)
def test_unresolved_reference_is_named(value: str, tmp_path: Path) -> None:
    phrase = "reference that was not resolved"
    (tmp_path / "value").write_text(value)
    for name in NAMES:
        assert_named(read_problems(environment(name, value)), name, phrase)
        assert_named(read_problems(environment(f"{name}_FILE", value, of=name)), f"{name}_FILE", phrase)
        assert_named(read_problems(environment(f"{name}_FILE", f"{tmp_path}/value", of=name)), name, phrase)


def test_utf16_without_mark_is_named(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(SECRET.encode("utf-16-le"))
    (problem,) = read_problems(environment("SECRET_KEY_FILE", f"{tmp_path}/value", of="SECRET_KEY"))
    assert problem.startswith("SECRET_KEY_FILE ")


def test_file_that_may_never_end_is_named(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    for path in (str(fifo), "/dev/zero"):
        (problem,) = read_problems(environment("SECRET_KEY_FILE", path, of="SECRET_KEY"))
        assert problem.startswith("SECRET_KEY_FILE ")
        for name in ("ENTRA_CLIENT_CERTIFICATE_PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            assert_named(read_problems(environment(name, path)), name, "PEM")


@pytest.mark.parametrize("name", ["COMMUNICATION_SERVICES_ENDPOINT", "TABLE_STORAGE_ENDPOINT"])
def test_unusable_azure_client_id_is_named(name: str) -> None:
    with_identity = environment(name, "https://a.example")
    for value in (REFERENCES[0], f"{MARK}-{CLIENT}"):
        assert_named(read_problems(with_identity | {"AZURE_CLIENT_ID": value}), "AZURE_CLIENT_ID", "")
        Settings.from_env(REQUIRED | {"AZURE_CLIENT_ID": value})  # meant for another program
    settings = Settings.from_env(with_identity | {"AZURE_CLIENT_ID": f" {CLIENT}"})
    assert settings.azure_client_id == CLIENT


@pytest.mark.parametrize(
    ("name", "prefix"), [(STORAGE, "CUSTOM"), (ACS, "SQLAZURE"), ("SECRET_KEY", "CUSTOM")]
)
def test_connection_strings_tab_is_named(name: str, prefix: str) -> None:
    variables = environment(f"{prefix}CONNSTR_{name}", REQUIRED[name], of=name)
    assert_named(
        read_problems(variables), name, f"found as {prefix}CONNSTR_{name}; enter it as an app setting"
    )
    Settings.from_env(REQUIRED | {f"{prefix}CONNSTR_{name}": MARK})


def test_three_alternatives_are_named_in_good_grammar() -> None:
    (problem,) = read_problems(REQUIRED | dict.fromkeys(EXACTLY_ONE[0], CLIENT))
    assert problem == f"{' and '.join(EXACTLY_ONE[0])} are set; set exactly one"


def test_domain_as_authority_needs_tenant_id() -> None:
    domain = REQUIRED | {"ENTRA_AUTHORITY": f"{LOGIN}/contoso.onmicrosoft.com"}
    assert_named(read_problems(domain), "ENTRA_ALLOWED_TENANTS", "write the tenant id")
    Settings.from_env(domain | {"ENTRA_ALLOWED_TENANTS": TENANT})


def test_idle_time_is_at_most_the_absolute_one() -> None:
    for idle, absolute, phrase in (("481", "", "SESSION_ABSOLUTE"), ("61", "60", "SESSION_ABSOLUTE")):
        variables = REQUIRED | {"SESSION_IDLE_MINUTES": idle, "SESSION_ABSOLUTE_MINUTES": absolute}
        assert_named(read_problems(variables), "SESSION_IDLE_MINUTES", phrase)
    Settings.from_env(REQUIRED | {"SESSION_ABSOLUTE_MINUTES": "1"})


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_unusable_ca_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "text.pem").write_text(f"{MARK}\n-----BEGIN CERTIFICATE-----\n")
    for path in (tmp_path / MARK, tmp_path, tmp_path / "empty.pem", tmp_path / "text.pem"):
        assert_named(read_problems(REQUIRED | {name: str(path)}), name, "PEM")
    assert_named(read_problems(REQUIRED | {name: REFERENCES[0]}), name, "PEM")
    Settings.from_env(REQUIRED | {name: ""})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        *(("TOKEN_LIFETIME_MINUTE", "TOKEN_LIFETIME_MINUTES"), ("secret_key_file", "SECRET_KEY_FILE")),
        *(("ENTRA_ID_CLIENT_SECRET", "ENTRA_CLIENT_SECRET"), ("CORS_ORIGIN", "CORS_ORIGINS")),
        *(("COMMUNICATION_SERVICE_CONNECTION_STRING", ACS), ("SESION_IDLE_MINUTES", "SESSION_IDLE_MINUTES")),
        *(("RATE_LIMIT_STORAGE_URL", REDIS), ("APPLICATION_INSIGHTS_CONNECTION_STRING", INSIGHTS)),
        *(("TOKEN_LIFETIME", "TOKEN_LIFETIME_MINUTES"), ("SESSION_IDLE", "SESSION_IDLE_MINUTES")),
        *(("SESSION_TIMEOUT_MINUTES", "SESSION_IDLE_MINUTES"), ("TRUSTED_PROXIES", "TRUSTED_PROXY_HOPS")),
        *(("ENTRA_TENANT_ID", "ENTRA_ALLOWED_TENANTS"), ("ENTRA_TENANTID", "ENTRA_ALLOWED_TENANTS")),
    ],
)
def test_misspelt_name_is_a_warning(name: str, nearest: str) -> None:
    variables = REQUIRED | {name: MARK}
    (warning,) = Settings.from_env(variables).warnings(variables)
    assert warning.startswith(f"{name} ")
    assert warning.endswith(f" {nearest}")
    assert MARK not in warning


def test_other_programs_variables_are_no_warning() -> None:
    others = """
        PATH HOME PORTS LOG_LEVEL SESSION_MANAGER AZURE_CLIENT_ID AZURE_CLIENT_SECRET
        AZURE_TENANT_ID REDIS_PORT APPLICATIONINSIGHTS_AUTHENTICATION_STRING
        APPINSIGHTS_INSTRUMENTATIONKEY GUNICORN_CMD_ARGS WEBSITE_HOSTNAME PUBLIC_IP SECRET_NAME
        TOKEN SSH_CONNECTION IDENTITY_ENDPOINT WEBSITES_PORT SSL_CERT_DIR CONNECTION_STRING
    """
    variables = REQUIRED | dict.fromkeys([*others.split(), *(f"APPSETTING_{name}" for name in NAMES)], "x")
    assert Settings.from_env(REQUIRED).warnings(variables) == []
    assert Settings.from_env(REQUIRED).warnings({"SECRET_KEYS": ""}) == []


def test_authority_of_a_foreign_tenant_is_a_warning() -> None:
    (warning,) = Settings.from_env(REQUIRED | {"ENTRA_ALLOWED_TENANTS": OTHER_TENANT}).warnings({})
    assert warning.startswith("ENTRA_ALLOWED_TENANTS ")


def test_signature_names_the_host_that_is_called(azure: LocalAzure) -> None:
    written = azure.env[ACS].replace("localhost", "LocalHost").replace("endpoint=", "Endpoint = ") + " ;"
    with azure.in_environment():
        services = Services(Settings.from_env(REQUIRED | azure.env | {ACS: f'"{written}"'}))
    identity, _ = services.communication.create_identity(("chat",), 60)
    services.communication.delete_identity(identity)


def test_telemetry_takes_every_accepted_form(monkeypatch: pytest.MonkeyPatch) -> None:
    for (name, expected), _ in WORKS.items():
        if name == INSIGHTS:
            monkeypatch.setenv(INSIGHTS, str(expected))
            assert ConnectionStringParser(str(expected)).instrumentation_key == CLIENT
