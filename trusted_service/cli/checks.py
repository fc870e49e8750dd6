"""What `check-config --connect` asks of each upstream, and the remedy where one refuses."""

import re
from contextlib import suppress

from trusted_service.azure.parallel import find_failures
from trusted_service.errors import UpstreamError, WrongResource
from trusted_service.services import Services

REMEDIES = {
    "": {
        "managed identity": "assign the managed identity to this app, and name it in "
        "ENTRA_MANAGED_IDENTITY_CLIENT_ID or AZURE_CLIENT_ID",
        "TLS: ": "check the address, with its port, and that REQUESTS_CA_BUNDLE or SSL_CERT_FILE holds the "
        "certificate authority",
    },
    "entraId": {
        "AADSTS70002(15|22)": "set ENTRA_CLIENT_SECRET to the value, not the id, of a current secret",
        "AADSTS(700016|90002)": "set ENTRA_CLIENT_ID to the application (client) id, and ENTRA_AUTHORITY or "
        "ENTRA_ALLOWED_TENANTS to a tenant that knows it",
        "AADSTS7000(2[347]|30)": "upload the certificate of ENTRA_CLIENT_CERTIFICATE_PATH to the app "
        "registration, and check this machine's clock",
        "AADSTS(7002|50027)": "add a federated credential for ENTRA_MANAGED_IDENTITY_CLIENT_ID to the app "
        "registration, with its issuer, subject and audience",
        "AADSTS": "look the number up at https://login.microsoftonline.com/error",
        "": "check ENTRA_AUTHORITY, and that this machine reaches it",
    },
    "tableStorage": {
        "tables? ": "create the tables, or set TABLE_STORAGE_CREATE_TABLES=true",
        "HTTP 40[13]": "check the key in TABLE_STORAGE_CONNECTION_STRING and the storage account's firewall, "
        "or give the managed identity the role Storage Table Data Contributor",
        "": "check TABLE_STORAGE_CONNECTION_STRING or …_ENDPOINT, and that this machine reaches it",
    },
    "communicationServices": {
        "belong to": "see `flask --app wsgi users move-resource`",
        "HTTP 40[13]": "check the key in COMMUNICATION_SERVICES_CONNECTION_STRING, or give the managed "
        "identity the role Communication and Email Service Owner",
        "": "check COMMUNICATION_SERVICES_CONNECTION_STRING or …_ENDPOINT, and that this machine reaches it",
    },
    "redis": {
        "MOVED|ASK|CROSSSLOT|CLUSTERDOWN": "use a Redis without cluster mode, or its Enterprise policy",
        "WRONGPASS|NOAUTH|NOPERM": "check user and password in RATE_LIMIT_STORAGE_URI or, where a managed "
        "identity connects, that its object id (not its client id) is a user of this Redis",
        "OOM": "give Redis more memory, or a policy that evicts keys",
        "READONLY|MASTERDOWN": "name the primary in RATE_LIMIT_STORAGE_URI, not a replica",
        r"LOADING|BUSY|MISCONF|ERR \(Conn": "Redis responds but cannot work at present: see its log",
        "ERR": "use Redis 6 or newer, and check password and database in RATE_LIMIT_STORAGE_URI",
        "": "check redis:// or rediss://, user, password, host and port in RATE_LIMIT_STORAGE_URI",
    },
}
"""By a pattern in what the upstream says, the first that fits: of any upstream, then of this one."""


def connect(services: Services) -> dict[str, str]:
    """Authenticate to each upstream; for each by name, `ok` or what it says and what to do."""
    checks = {
        "entraId": services.entra.check,
        "tableStorage": services.storage.check_write,
        "communicationServices": lambda: _check_resource(services),
    }
    failures = zip(checks, find_failures(checks.values()), strict=True)
    found = {name: _reason(failure) if failure else None for name, failure in failures}
    if services.settings.rate_limit_storage_uri != "memory://":
        found["redis"] = services.communication.shares.find_redis_failure()
    return {name: _line(name, failure) for name, failure in found.items()}


def _check_resource(services: Services) -> None:
    """Create and delete an identity, which tells whether the key is right, and which resource responds."""
    found = services.communication.find_own_resource()
    pin = None
    with suppress(UpstreamError):  # the storage has its own line
        pin = services.pin.find()
    if pin is not None and found not in (pin.resource, None):
        raise WrongResource(pin.resource, str(found))


def _reason(failure: UpstreamError) -> str:
    ids = ", ".join(f"{name} {id}" for name, id in failure.details.items() if id not in failure.reason)
    return f"{failure.reason} ({ids})" if ids else failure.reason


def _line(name: str, failure: str | None) -> str:
    if failure is None:
        return "ok"
    remedies = REMEDIES[""] | REMEDIES[name]
    return f"{failure}: {next(text for part, text in remedies.items() if re.search(part, failure))}"
