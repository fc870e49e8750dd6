"""What `check-config --connect` asks of each upstream, and the remedy where one refuses."""

import re
from collections.abc import Callable
from contextlib import suppress

from trusted_service.azure.parallel import map_parallel
from trusted_service.errors import UpstreamError, WrongResource
from trusted_service.services import Services

ROLE = "or, with a managed identity, give it the role {}"
REMEDIES = {
    "entraId": {
        "7000222": "the client secret has expired: create another and set ENTRA_CLIENT_SECRET",
        "7000215": "set ENTRA_CLIENT_SECRET to the secret's value, not to its id",
        "700016": "set ENTRA_CLIENT_ID to the application (client) id, and ENTRA_AUTHORITY or "
        "ENTRA_ALLOWED_TENANTS to a tenant that knows it",
        "700027|70002[34]|700030": "upload the certificate of ENTRA_CLIENT_CERTIFICATE_PATH to the app "
        "registration, and check this machine's clock",
        "7002[0-9]+|70021|50027": "add a federated credential for ENTRA_MANAGED_IDENTITY_CLIENT_ID to "
        "the app registration, with its issuer, subject and audience",
        "90002": "set ENTRA_AUTHORITY to the address of your tenant",
        "[0-9]+": "look the number up at https://login.microsoftonline.com/error",
    },
    "tableStorage": {
        "tables? ": "create the tables, or set TABLE_STORAGE_CREATE_TABLES=true",
        "HTTP 40[13]": "check the key in TABLE_STORAGE_CONNECTION_STRING and the storage account's "
        "firewall, " + ROLE.format("Storage Table Data Contributor"),
    },
    "communicationServices": {
        "belong to": "see `flask --app wsgi users move-resource`",
        "HTTP 40[13]": "check the key in COMMUNICATION_SERVICES_CONNECTION_STRING, "
        + ROLE.format("Communication and Email Service Owner"),
    },
    "redis": {
        "AuthenticationError": "correct the user name and password in RATE_LIMIT_STORAGE_URI",
        "NOPERM": "let this Redis user run scripts and write keys",
        "MOVED|ASK|CROSSSLOT|CLUSTERDOWN": "use a Redis without cluster mode, or its Enterprise policy",
        "OOM": "give Redis more memory, or a policy that evicts keys",
        "READONLY|MASTERDOWN": "name the primary in RATE_LIMIT_STORAGE_URI, not a replica",
        "LOADING|TRYAGAIN": "wait until Redis has started",
        "TLS:": "check rediss://, the port (6380 at Azure), and the certificate authority (SSL_CERT_FILE)",
    },
}
"""By a pattern in the reason; the first that fits. `entraId` has patterns of AADSTS numbers."""
OTHERWISE = {
    "entraId": "check ENTRA_AUTHORITY",
    "tableStorage": "check TABLE_STORAGE_CONNECTION_STRING or …_ENDPOINT",
    "communicationServices": "check COMMUNICATION_SERVICES_CONNECTION_STRING or …_ENDPOINT",
    "redis": "check host, port and redis:// or rediss:// in RATE_LIMIT_STORAGE_URI",
}
REACHED = "and that this machine reaches it"
IDENTITY = (
    "assign the managed identity to this app, and name it in ENTRA_MANAGED_IDENTITY_CLIENT_ID "
    "or AZURE_CLIENT_ID"
)


def connect(services: Services) -> dict[str, str]:
    """Authenticate to each upstream; for each by name, `ok` or what it says and what to do."""
    checks: dict[str, Callable[[], str | None]] = {
        "entraId": services.entra.check,
        "tableStorage": services.storage.check_write,
        "communicationServices": lambda: _check_resource(services),
    }
    if services.settings.rate_limit_storage_uri != "memory://":
        checks["redis"] = services.communication.shares.find_redis_failure
    found = map_parallel(_find_failure, list(checks.values()))
    return {name: _line(name, failure) for name, failure in zip(checks, found, strict=True)}


def _check_resource(services: Services) -> None:
    """Create and delete an identity, which tells whether the key is right, and which resource responds."""
    found = services.communication.find_own_resource()
    pin = None
    with suppress(UpstreamError):  # the storage has its own line
        pin = services.pin.find()
    if pin is not None and found not in (pin.resource, None):
        raise WrongResource(pin.resource, str(found))


def _find_failure(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except UpstreamError as error:
        ids = ", ".join(f"{name} {id}" for name, id in error.details.items() if id not in error.reason)
        return f"{error.reason} ({ids})" if ids else error.reason


def _line(name: str, failure: str | None) -> str:
    if failure is None:
        return "ok"
    if failure.startswith("managed identity"):
        return f"{failure}: {IDENTITY}"
    form = r"AADSTS({})\b" if name == "entraId" else "{}"
    fitting = (text for part, text in REMEDIES[name].items() if re.search(form.format(part), failure))
    return f"{failure}: {next(fitting, f'{OTHERWISE[name]}, {REACHED}')}"
