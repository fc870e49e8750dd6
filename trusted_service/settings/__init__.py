"""The settings of this service, from environment variables: docs/reference.md.

A variable that is empty counts as not set, since App Service cannot tell the two apart; `<NAME>_FILE` names a
file that holds the value. Blanks, a byte order mark and quotes around a value are not part of it.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self, get_args

from limits import parse_many
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trusted_service.models import parse_guid
from trusted_service.settings import addresses, credentials, environment

MAX_WINDOW_SECONDS = 86_400
EXPIRES_SOON = timedelta(days=30)


class SettingsError(Exception):
    """`problems` holds a sentence for each bad setting, which never repeats a value: it can be a secret."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("The settings are not usable:\n" + "\n".join(f"  - {p}" for p in problems))


def _rate_limit(value: str) -> str:
    """The shortest window first: a request that its limit refuses is then not counted by the others."""
    limits = sorted((limit.get_expiry(), limit.amount) for limit in parse_many(value.rstrip(" ;,")))
    if limits[-1][0] > MAX_WINDOW_SECONDS or 0 in map(int, re.findall("[0-9]+", value)):
        raise ValueError("a limit of nothing, or for too long")
    return ";".join(f"{amount} per {seconds} seconds" for seconds, amount in limits)


def _scope_name(value: str) -> str:
    """Return what a token's `scp` holds of a scope, which clients write with the API's address in front."""
    name = value.rpartition("/")[2]
    if not re.fullmatch(r"[!-~]+", name) or name == ".default":
        raise ValueError("not the name of one scope")
    return name


def _number(default: int, minimum: int, maximum: int) -> Any:
    description = f"a whole number from {minimum} to {maximum}"
    return Field(default, ge=minimum, le=maximum, description=description)


Words = BeforeValidator(environment.words)
Number = Annotated[int, BeforeValidator(lambda value: value if re.fullmatch("[0-9]{1,9}", value) else None)]
Flag = Annotated[bool, BeforeValidator(lambda value: {"true": True, "false": False}.get(value.lower()))]
Guid = Annotated[str, AfterValidator(parse_guid), Field(description="a GUID")]
Guids = Annotated[tuple[Guid, ...], Words, Field(description="GUIDs, separated by commas")]
Key = Annotated[
    str, Field(min_length=32, description="at least 32 characters long"), AfterValidator(credentials.key)
]
Origin = Annotated[str, AfterValidator(addresses.origin)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(addresses.page_origin)], ...],
    Words,
    Field(
        description="exact origins, separated by commas: https://…, http://localhost:… or a hybrid app's, "
        "such as capacitor://localhost"
    ),
]
Certificate = Annotated[str, AfterValidator(credentials.certificate)]
AuthorityUrl = Annotated[str, AfterValidator(addresses.authority)]
AcsConnection = Annotated[str, AfterValidator(addresses.communication_connection)]
TableConnection = Annotated[str, AfterValidator(addresses.storage_connection)]
TableEndpoint = Annotated[str, AfterValidator(addresses.table_endpoint)]
TelemetryConnection = Annotated[str, AfterValidator(addresses.telemetry_connection)]
ScopeName = Annotated[str, AfterValidator(_scope_name)]
RateLimit = Annotated[
    str,
    AfterValidator(_rate_limit),
    Field(description="a rate of at least 1, for a second to a day, such as 30 per minute"),
]
RateLimitStorage = Annotated[str, AfterValidator(addresses.rate_limit_storage)]
Scope = Literal["chat", "voip", "chat.join", "chat.join.limited", "voip.join"]


class Settings(BaseModel):
    """Everything the service is told from outside. A field's description says what its value must be."""

    model_config = ConfigDict(frozen=True, alias_generator=str.upper)

    public_url: Origin = Field(description="an https origin without a path (http only on localhost)")
    secret_key: Key = Field(repr=False)
    secret_key_fallbacks: Annotated[tuple[Key, ...], Words] = Field(
        (), repr=False, description="keys of at least 32 characters, separated by commas"
    )
    entra_authority: AuthorityUrl = Field(
        description="https://login.microsoftonline.com/<tenant id> or …/organizations, or for External ID "
        "https://<name>.ciamlogin.com/<tenant id>, without /v2.0 and personal accounts"
    )
    entra_client_id: Guid
    entra_allowed_tenants: Guids = Field(
        min_length=1, description="GUIDs, separated by commas, or write the tenant id in ENTRA_AUTHORITY"
    )
    entra_client_secret: str | None = Field(
        None, repr=False, pattern="^[!-~]+$", description="one line of printable ASCII without blanks"
    )
    entra_client_certificate_path: Certificate | None = Field(
        None, description="the path of a PEM file: a certificate first, and its RSA key without a password"
    )
    entra_managed_identity_client_id: Guid | None = Field(None, description="a GUID")
    azure_client_id: Guid | None = Field(None, description="a GUID")
    admin_role: str = Field(
        "TrustedService.Admin",
        alias="ENTRA_ADMIN_ROLE",
        pattern=r"^\S+$",
        description="one role, without blanks",
    )
    api_scope: ScopeName = Field(
        "access_as_user", alias="ENTRA_API_SCOPE", description="the name of one scope, such as access_as_user"
    )
    api_clients: Guids = Field((), alias="ENTRA_API_CLIENTS")
    communication_services_connection_string: AcsConnection | None = Field(
        None, repr=False, description="endpoint=https://…;accesskey=<base64>"
    )
    communication_services_endpoint: Origin | None = Field(
        None, description="an https address without a path, and no connection string"
    )
    table_storage_connection_string: TableConnection | None = Field(
        None, repr=False, description="AccountName=…;AccountKey=<base64>;…, over https"
    )
    table_storage_endpoint: TableEndpoint | None = Field(
        None, description="an https address without a path, and no connection string"
    )
    token_scopes: Annotated[tuple[Scope, ...], Words, BeforeValidator(str.lower)] = Field(
        ("chat", "voip"), min_length=1, description=f"chosen from {', '.join(get_args(Scope))}"
    )
    token_lifetime_minutes: Number = _number(60, 60, 1440)
    session_idle_minutes: Number = _number(60, 1, 525_600)
    session_absolute_minutes: Number = _number(480, 1, 525_600)
    table_storage_create_tables: Flag = Field(True, description="true or false")
    missing_identity_grace_seconds: Number = _number(30, 0, 86_400)
    cors_origins: Origins = ()
    rate_limit_token: RateLimit = "30 per minute"  # noqa: S105 # no secret
    rate_limit_account: RateLimit = "10 per minute"
    rate_limit_sign_in: RateLimit = "60 per minute"
    rate_limit_storage_uri: RateLimitStorage = Field(
        "memory://",
        repr=False,
        description="memory:// or rediss://:<password>@<host>:<port>/0, each character of the password but "
        "letters and digits percent-encoded (/ as %2F, = as %3D), or without a password, for a managed "
        "identity, rediss://<object id>@<host>:10000",
    )
    trusted_proxy_hops: Number = _number(0, 0, 10)
    retention_audit_days: Number = _number(400, 0, 36_500)
    retention_usage_days: Number = _number(400, 0, 36_500)
    retention_jobs_days: Number = _number(30, 0, 36_500)
    log_format: Annotated[Literal["json", "text"], BeforeValidator(str.lower)] = Field(
        "json", description="json or text"
    )
    applicationinsights_connection_string: TelemetryConnection | None = Field(
        None, repr=False, description="InstrumentationKey=<GUID>;IngestionEndpoint=https://…"
    )
    port: Number = _number(8000, 1, 65_535)
    web_concurrency: Number = _number(2, 1, 256)

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The current key first."""
        return (self.secret_key, *self.secret_key_fallbacks)

    @property
    def https(self) -> bool:
        """Whether browsers reach us over https."""
        return self.public_url.startswith("https://")

    @classmethod
    def from_env(cls, variables: Mapping[str, str] = os.environ) -> Self:
        """Raises SettingsError, which names every setting that is missing, malformed or weak."""
        values, problems = environment.read(variables, FIELDS)
        # An authority that is one tenant allows that tenant.
        tenant = values.get("ENTRA_AUTHORITY", "").rstrip("/").rpartition("/")[2]
        try:
            settings = cls.model_validate({"ENTRA_ALLOWED_TENANTS": tenant} | values)
        except ValidationError as error:
            for found in error.errors(include_url=False, include_context=False, include_input=False):
                name = str(found["loc"][0])
                if name == "ENTRA_ALLOWED_TENANTS" and name not in values and "ENTRA_AUTHORITY" in problems:
                    continue
                expected = f"must be {FIELDS[name].description or 'UTF-8 text'}"
                reasons = {"missing": environment.missing(variables, name), "unusable": found["msg"]}
                problems.setdefault(name, f"{name} {reasons.get(found['type'], expected)}")
        else:
            idle, absolute = settings.session_idle_minutes, settings.session_absolute_minutes
            if "session_idle_minutes" in settings.model_fields_set and idle > absolute:
                reason = "must not be longer than SESSION_ABSOLUTE_MINUTES"
                problems["SESSION_IDLE_MINUTES"] = f"SESSION_IDLE_MINUTES {reason}"
        if problems:
            raise SettingsError(*dict.fromkeys(problems.values()))
        return settings

    def warnings(self, variables: Mapping[str, str] = os.environ) -> list[str]:
        """A sentence for each thing that is probably a mistake, or soon will be one, but stops no start."""
        found = environment.find_misspelt(variables, FIELDS)
        if path := self.entra_client_certificate_path:
            ends = credentials.end_of_certificate(path)
            if ends - datetime.now(UTC) < EXPIRES_SOON:
                found.append(f"ENTRA_CLIENT_CERTIFICATE_PATH: the certificate expires on {ends:%Y-%m-%d}")
        tenant = self.entra_authority.rpartition("/")[2]
        if tenant not in self.entra_allowed_tenants and len(tenant) == 36:
            found.append("ENTRA_ALLOWED_TENANTS lacks the tenant of ENTRA_AUTHORITY: nobody can sign in")
        return found


FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}
