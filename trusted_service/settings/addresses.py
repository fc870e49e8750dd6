"""Addresses and connection strings: each function returns one that clients can use, in its canonical form.

It raises ValueError if a library would refuse the value or read it in another way.
"""

import base64
import re
import ssl
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

from azure.core.utils import parse_connection_string

from trusted_service.models import parse_guid
from trusted_service.settings.credentials import require_trusted_certificates, unusable

PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of all personal accounts: https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HOST = r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*"
NO_APP = r"(https?|file|ftp|wss?|javascript)://"
"""Schemes that no hybrid app has: their pages have another origin, or none."""


def origin(value: str) -> str:
    """Return an https origin, or an http one of this machine, in its canonical form.

    https://html.spec.whatwg.org/multipage/browsers.html#origin
    """
    url = urlsplit(value)
    host, port = url.hostname or "", url.port
    canonical = f"{url.scheme}://{url.netloc.lower()}"
    secure = url.scheme == "https" or (
        url.scheme == "http" and (host in LOOPBACK or host.endswith(".localhost"))
    )
    bare = value.lower() in (canonical, f"{canonical}/") and not canonical.endswith(":") and port != 0
    if not (
        secure and bare and url.username is None and re.fullmatch(rf"{HOST}|[0-9a-f:.]*:[0-9a-f:.]*", host)
    ):
        raise ValueError("not an https origin")
    base = canonical if port is None else f"{canonical.rpartition(':')[0]}:{port}"
    return base.removesuffix(":443" if url.scheme == "https" else ":80")


def page_origin(value: str) -> str:
    """Return the origin of pages that may call us: as `origin`, or a hybrid app's (capacitor://localhost)."""
    text = value.lower().removesuffix("/")
    is_app = re.fullmatch(rf"(?!{NO_APP})[a-z][a-z0-9+.-]*://[a-z0-9.-]+(:[1-9][0-9]{{0,4}})?", text)
    return text if is_app else origin(value)


def authority(value: str) -> str:
    text = value.lower().rstrip("/")
    host, _, tenant = text.removeprefix("https://").partition("/")
    base = origin(f"https://{host}")
    if not text.startswith("https://") or not re.fullmatch(r"[a-z0-9_.-]+", tenant):
        raise ValueError("not an authority")
    if tenant in ("common", "consumers", PERSONAL_TENANT):
        raise ValueError("admits personal accounts")
    if ".ciamlogin." in base and tenant == "organizations":
        raise ValueError("an External ID tenant is one tenant")
    return f"{base}/{tenant}"


def redis_identity(value: str) -> str | None:
    """The object id of the managed identity that connects to Redis: a user without a password."""
    found = re.match(r"(?i)rediss?://([^:@/?#]+):?@", value)
    return found[1] if found else None


def rate_limit_storage(value: str) -> str:
    """https://redis.readthedocs.io/en/stable/connections.html#redis.Redis.from_url"""
    scheme, separator, rest = value.partition("://")
    value = f"{scheme.lower()}{separator}{rest}"
    if value == "memory://":
        return value
    url = urlsplit(value)
    # Behind an unescaped / # or ?, the rest of a password would be a path or a query, and its host lost.
    whole = re.fullmatch(r"[\w.:-]+", url.hostname or "") and re.fullmatch("(/[0-9]*)?/?", url.path)
    if not whole or url.port == 0 or re.search(r"[\s#]", value):
        raise ValueError("not an address of Redis")
    import redis  # takes a while, so only where it is used

    try:
        connection = redis.ConnectionPool.from_url(value).make_connection()  # connects to nothing
        if path := getattr(connection, "ca_certs", None):
            require_trusted_certificates(path)
    except Exception:
        raise ValueError("redis-py cannot use it") from None
    if isinstance(connection, redis.SSLConnection) and not (
        connection.cert_reqs == ssl.CERT_REQUIRED and connection.check_hostname
    ):
        raise unusable("must not turn off certificate checks")
    user, password = (getattr(connection, name) for name in ("username", "password"))
    if user and not password:
        value = value.replace(user, parse_guid(redis_identity(value) or ""), 1)
        if not isinstance(connection, redis.SSLConnection):
            raise unusable("must be rediss:// where a managed identity connects: its token is the password")
    return value


def _parts(value: str) -> dict[str, str]:
    """The parts of a connection string by their lower-case names, whatever blanks are around them."""
    parts = ("=".join(map(str.strip, part.split("=", 1))) for part in value.split(";") if part.strip())
    return dict(parse_connection_string(";".join(parts)))


def _joined(parts: dict[str, str]) -> str:
    return ";".join(f"{name}={value}" for name, value in parts.items())


def _access_key(value: str) -> str:
    if not base64.b64decode(value, validate=True):
        raise ValueError("empty")
    return value


def communication_connection(value: str) -> str:
    """The signature of each call names the host, so it must be the one that the Host header has."""
    parts = _parts(value)
    endpoint, access_key = origin(parts.get("endpoint", "")), _access_key(parts.get("accesskey", ""))
    return _joined({"endpoint": endpoint, "accesskey": access_key})


def table_endpoint(value: str) -> str:
    """An origin, behind which an emulator, and nothing else, has the account's name as a path."""
    value = value.lower()
    if re.search(r"\.(blob|queue|file|dfs)\.core\.|\.table\.(table\.|[^/]*/.)", value):
        raise unusable("must name the endpoint of tables: https://<account>.table.core.windows.net")
    base, _, account = value.rstrip("/").rpartition("/")
    if re.fullmatch(r"[a-z0-9]{3,24}", account) and base.count("/") == 2:
        return f"{origin(base)}/{account}"
    return origin(value)


def storage_connection(value: str) -> str:
    """https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string"""
    parts = _parts(value)
    if _joined(parts).lower() == "usedevelopmentstorage=true":
        return "UseDevelopmentStorage=true"
    for name in parts.keys() & {"defaultendpointsprotocol", "accountname", "endpointsuffix"}:
        parts[name] = parts[name].lower()
    protocol, account = parts.get("defaultendpointsprotocol", "https"), parts.get("accountname", "")
    address = f"{protocol}://{account}.table.{parts.get('endpointsuffix', 'core.windows.net')}"
    endpoint = table_endpoint(parts.get("tableendpoint", address))
    if "tableendpoint" in parts:
        parts["tableendpoint"] = endpoint
    signature = parts.get("sharedaccesssignature", "").lstrip("?")
    if account and "accountkey" in parts:
        _access_key(parts["accountkey"])
    elif "sig" not in (query := parse_qs(signature)) or not (account or "tableendpoint" in parts):
        raise ValueError("neither a key nor a signature")
    elif datetime.fromisoformat(query.get("se", ["9999-12-31"])[0]).replace(tzinfo=UTC) < datetime.now(UTC):
        raise unusable("holds a shared access signature that has expired")
    else:
        parts["sharedaccesssignature"] = signature
    return _joined(parts)


def telemetry_connection(value: str) -> str:
    """https://learn.microsoft.com/azure/azure-monitor/app/connection-strings"""
    parts = _parts(value)
    parts["instrumentationkey"] = parse_guid(parts.get("instrumentationkey", ""))
    for name in parts.keys() & {"ingestionendpoint", "liveendpoint"}:
        parts[name] = origin(parts[name]) + "/"
    # The exporter takes neither a second = in a part nor another authorization.
    if "=" in "".join(parts.values()) or parts.get("authorization", "ikey").lower() != "ikey":
        raise ValueError("not a connection string of Application Insights")
    return _joined(parts)
