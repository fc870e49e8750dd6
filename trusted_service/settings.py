"""The settings of this service, from environment variables: docs/reference.md.

A variable that is empty counts as not set, since App Service cannot tell the two apart; `<NAME>_FILE` names a
file that holds the value.
"""

import contextlib
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from limits import parse_many
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from trusted_service import addresses
from trusted_service.models import parse_guid

EXACTLY_ONE = (
    ("ENTRA_CLIENT_SECRET", "ENTRA_CLIENT_CERTIFICATE_PATH", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"),
    ("COMMUNICATION_SERVICES_CONNECTION_STRING", "COMMUNICATION_SERVICES_ENDPOINT"),
    ("TABLE_STORAGE_CONNECTION_STRING", "TABLE_STORAGE_ENDPOINT"),
)
MAX_WINDOW_SECONDS = 86_400


class SettingsError(Exception):
    """`problems` holds a sentence for each bad setting, which never repeats a value: it can be a secret."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(problems)
        super().__init__("The settings are not usable:\n" + "\n".join(f"  - {p}" for p in problems))


def _certificate(path: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong it must be is up to Entra ID
    try:
        context.load_cert_chain(path, password="")  # nosec B106 # so that nobody is asked for one
    except OSError as error:
        raise ValueError("not a certificate and its key") from error
    return path


def _rate_limit(value: str) -> str:
    """The shortest window first: a request that its limit refuses is then not counted by the others."""
    limits = sorted((limit.get_expiry(), limit.amount) for limit in parse_many(value))
    if limits[-1][0] > MAX_WINDOW_SECONDS or 0 in map(int, re.findall("[0-9]+", value)):
        raise ValueError("a limit of nothing, or for too long")
    return ";".join(f"{amount} per {seconds} seconds" for seconds, amount in limits)


def _words(value: str) -> tuple[str, ...]:
    """A comma-separated list, without empty entries and repeats."""
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))


def _number(default: int, minimum: int, maximum: int) -> Any:
    description = f"a whole number from {minimum} to {maximum}"
    return Field(default, ge=minimum, le=maximum, description=description)


Words = BeforeValidator(_words)
Number = Annotated[int, BeforeValidator(lambda value: value if re.fullmatch("[0-9]{1,9}", value) else None)]
Flag = Annotated[bool, BeforeValidator(lambda value: {"true": True, "false": False}.get(value.lower()))]
Guid = Annotated[str, AfterValidator(parse_guid), Field(description="a GUID")]
Guids = Annotated[tuple[Guid, ...], Words, Field(description="GUIDs, separated by commas")]
Key = Annotated[str, Field(min_length=32, description="at least 32 characters long")]
Origin = Annotated[str, AfterValidator(addresses.origin)]
Origins = Annotated[tuple[Origin, ...], Words, Field(description="exact https origins, separated by commas")]
Certificate = Annotated[str, AfterValidator(_certificate)]
AuthorityUrl = Annotated[str, AfterValidator(addresses.authority)]
AcsConnection = Annotated[str, AfterValidator(addresses.communication_connection)]
TableConnection = Annotated[str, AfterValidator(addresses.storage_connection)]
TableEndpoint = Annotated[str, AfterValidator(addresses.table_endpoint)]
RateLimit = Annotated[
    str,
    AfterValidator(_rate_limit),
    Field(description="a rate of at least 1, for a second to a day, such as 30 per minute"),
]
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
        description="https://login.microsoftonline.com/<tenant id> or …/organizations, no personal accounts"
    )
    entra_client_id: Guid
    entra_allowed_tenants: Guids = Field(min_length=1, description="GUIDs, unless the authority names one")
    entra_client_secret: str | None = Field(None, repr=False)
    entra_client_certificate_path: Certificate | None = Field(
        None, description="the path of a PEM file with a certificate and its private key"
    )
    entra_managed_identity_client_id: Guid | None = Field(None, description="a GUID")
    admin_role: str = Field("TrustedService.Admin", alias="ENTRA_ADMIN_ROLE")
    api_scope: str = Field("access_as_user", alias="ENTRA_API_SCOPE")
    api_clients: Guids = Field((), alias="ENTRA_API_CLIENTS")
    communication_services_connection_string: AcsConnection | None = Field(
        None, repr=False, description="endpoint=https://…;accesskey=<base64>"
    )
    communication_services_endpoint: Origin | None = Field(None, description="an https address, no path")
    table_storage_connection_string: TableConnection | None = Field(
        None, repr=False, description="AccountName=…;AccountKey=<base64>;…, over https"
    )
    table_storage_endpoint: TableEndpoint | None = Field(None, description="an https address, no path")
    token_scopes: Annotated[tuple[Scope, ...], Words] = Field(
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
    rate_limit_storage_uri: str = Field(
        "memory://", pattern="^(memory://$|rediss?://)", repr=False, description="memory:// or redis://…"
    )
    trusted_proxy_hops: Number = _number(0, 0, 10)
    retention_audit_days: Number = _number(400, 0, 36_500)
    retention_usage_days: Number = _number(400, 0, 36_500)
    retention_jobs_days: Number = _number(30, 0, 36_500)
    log_format: Literal["json", "text"] = Field("json", description="json or text")
    applicationinsights_connection_string: str | None = Field(
        None, pattern="(?i)InstrumentationKey=", repr=False, description="a text with InstrumentationKey=…"
    )

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
        values, problems = _read(variables)
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
                problem = "is missing" if found["type"] == "missing" else expected
                problems.setdefault(name, f"{name} {problem}")
        if problems:
            raise SettingsError(*dict.fromkeys(problems.values()))
        return settings


FIELDS = {str(field.alias): field for field in Settings.model_fields.values()}


def _read(variables: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The values that are set, and a sentence for each that cannot be read; both by name."""
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in FIELDS:
        value, path = (variables.get(key, "").strip() for key in (name, f"{name}_FILE"))
        if value and path:
            problems[name] = f"{name} is given twice: {name} and {name}_FILE"
        elif path:
            with contextlib.suppress(OSError, ValueError):
                value = Path(path).read_text(encoding="utf-8").strip()
            if not value:
                problems[name] = f"{name}_FILE names a file that is empty or cannot be read"
        if value:
            values[name] = value
    for group in EXACTLY_ONE:
        given = [name for name in group if name in values]
        if len(given) > 1:
            problems |= dict.fromkeys(given, f"{' and '.join(given)} are both set; set exactly one")
        elif not given and not problems.keys() & set(group):
            problems |= dict.fromkeys(group, f"{' or '.join(group)} is missing")
    return values, problems
