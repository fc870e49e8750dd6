"""Reading environment variables and the files that they name, as people and tools write them."""

import codecs
import contextlib
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from trusted_service.settings.addresses import redis_identity
from trusted_service.settings.credentials import PLACEHOLDER, read_file, require_trusted_certificates

EXACTLY_ONE = (
    ("ENTRA_CLIENT_SECRET", "ENTRA_CLIENT_CERTIFICATE_PATH", "ENTRA_MANAGED_IDENTITY_CLIENT_ID"),
    ("COMMUNICATION_SERVICES_CONNECTION_STRING", "COMMUNICATION_SERVICES_ENDPOINT"),
    ("TABLE_STORAGE_CONNECTION_STRING", "TABLE_STORAGE_ENDPOINT"),
)
CA_VARIABLES = {"REQUESTS_CA_BUNDLE": True, "SSL_CERT_FILE": False}
"""Libraries read these, as they are: whether each may name a folder."""
REFERENCE = re.compile(r"(?i)@\s*(Microsoft\s*\.\s*(KeyVault|AppConfiguration)|AppSettingReference)\b")
"""https://learn.microsoft.com/azure/app-service/app-service-key-vault-references"""
AROUND = re.compile(r"\A[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+\Z")
PREFIXES = (
    *("ENTRA_", "COMMUNICATION_SERVICES_", "TABLE_STORAGE_", "RATE_LIMIT_", "RETENTION_", "CORS_"),
    *("TOKEN_LIFETIME", "SESSION_IDLE", "SESSION_LIFETIME", "SESSION_TIMEOUT", "TRUSTED_PROX"),
)
"""Variables that are called so are meant for this service."""
NOT_OURS = ("APPSETTING_", "APPLICATIONINSIGHTS_")
"""Variables of App Service, which repeats each one so, and of Azure Monitor."""
QUOTES = "\"'`\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"


def bare(text: str) -> str:
    """The text without what is around it by accident."""
    text = AROUND.sub("", text)
    return bare(text[1:-1]) if len(text) > 1 and text[0] in QUOTES and text[-1] in QUOTES else text


def words(value: str) -> tuple[str, ...]:
    """A list, separated by commas or line breaks, without empty entries and repeats."""
    found = (bare(word).strip(QUOTES) for word in re.split("[,\n\r]", value))
    return tuple(dict.fromkeys(word for word in found if word))


def _read_file(path: str) -> str:
    """Raises OSError and ValueError."""
    content = read_file(path)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = bare(content.decode("utf-16" if utf16 else "utf-8"))
    if "\0" in text:
        raise ValueError("neither UTF-8 nor marked as UTF-16")
    return text


def read(variables: Mapping[str, str], names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The values that are set, and a sentence for each that cannot be read; both by name."""
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name in names:
        value, path = (bare(variables.get(key, "")) for key in (name, f"{name}_FILE"))
        if value and path:
            problems[name] = f"{name} is given twice: {name} and {name}_FILE"
        elif path:
            with contextlib.suppress(OSError, ValueError):
                value = _read_file(path)
            if not value:
                problems[name] = f"{name}_FILE names a file that is empty or cannot be read"
        if REFERENCE.search(value or path) or PLACEHOLDER.fullmatch(value or path):
            reason = "is a reference that was not resolved (App Service shows why), or a placeholder"
            problems[name] = f"{name if value else f'{name}_FILE'} {reason}"
        if value:
            values[name] = value
    for group in EXACTLY_ONE:
        given = [name for name in group if name in values]
        if len(given) > 1:
            problems |= dict.fromkeys(given, f"{' and '.join(given)} are set; set exactly one")
        elif not given and not problems.keys() & set(group):
            problems |= dict.fromkeys(group, f"{' or '.join(group)} {missing(variables, *group)}")
    is_used = "_ENDPOINT" in "".join(values) or redis_identity(values.get("RATE_LIMIT_STORAGE_URI", ""))
    if "ENTRA_MANAGED_IDENTITY_CLIENT_ID" in values or not is_used:
        for unused in values, problems:  # it may be meant for another program
            unused.pop("AZURE_CLIENT_ID", None)
    for name, may_be_folder in CA_VARIABLES.items():
        try:
            if variables.get(name):
                require_trusted_certificates(variables[name], may_be_folder=may_be_folder)
        except OSError:
            problems[name] = f"{name} must name a file with certificates in PEM format"
    return values, problems


def missing(variables: Mapping[str, str], *names: str) -> str:
    """https://learn.microsoft.com/azure/app-service/reference-app-settings#variable-prefixes"""
    found = [variable for variable in variables if variable.upper().partition("CONNSTR_")[2] in names]
    return f"is missing: found as {found[0]}; enter it as an app setting" if found else "is missing"


def find_misspelt(variables: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """A sentence for each variable that is set, and named nearly as one of these settings."""
    known = {known for name in names for known in (name, f"{name}_FILE")}
    distinct = [name for name in known if len(name) > 9]  # not PORT
    others = [name for name in sorted(variables.keys() - known) if bare(variables[name])]
    return [
        f"{name} is no setting of this service and has no effect; the nearest is {nearest}"
        for name in others
        if not name.upper().startswith(NOT_OURS)
        for nearest in get_close_matches(
            re.sub("TENANT_?ID", "ALLOWED_TENANTS", name.upper()),
            *(distinct, 1, 0.5 if name.upper().startswith(PREFIXES) else 0.86),
        )
    ]
