"""Addresses and connection strings: each function returns one that clients can use or raises ValueError."""

import base64
import re
from urllib.parse import urlsplit

from azure.core.utils import parse_connection_string

PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of all personal accounts: https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference"""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def origin(value: str) -> str:
    """Return an https origin, or an http one of this machine, in its canonical form.

    https://html.spec.whatwg.org/multipage/browsers.html#origin
    """
    url = urlsplit(value)
    host, port = url.hostname or "", url.port
    canonical = f"{url.scheme}://{url.netloc.lower()}"
    secure = url.scheme == "https" or (url.scheme == "http" and host in LOOPBACK)
    bare = value.lower() in (canonical, f"{canonical}/") and not canonical.endswith(":") and port != 0
    if not (secure and bare and url.username is None and re.fullmatch(r"[a-z0-9.:-]+", host)):
        raise ValueError("not an https origin")
    return canonical.removesuffix(":443" if url.scheme == "https" else ":80")


def authority(value: str) -> str:
    host, _, tenant = value.rstrip("/").removeprefix("https://").partition("/")
    origin(f"https://{host}")
    if not value.startswith("https://") or not re.fullmatch(r"[\w.-]+", tenant):
        raise ValueError("not an authority")
    if tenant.lower() in ("common", "consumers", PERSONAL_TENANT):
        raise ValueError("admits personal accounts")
    return value.rstrip("/")


def _access_key(value: str) -> None:
    if not base64.b64decode(value, validate=True):
        raise ValueError("empty")


def communication_connection(value: str) -> str:
    parts = parse_connection_string(value)
    origin(parts.get("endpoint", ""))
    _access_key(parts.get("accesskey", ""))
    return value


def table_endpoint(value: str) -> str:
    """An origin, behind which an emulator has the account's name as a path."""
    base, _, account = value.rstrip("/").rpartition("/")
    if re.fullmatch(r"[a-z0-9]{3,24}", account) and base.count("/") == 2:
        return f"{origin(base)}/{account}"
    return origin(value)


def storage_connection(value: str) -> str:
    """https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string"""
    if value.lower() == "usedevelopmentstorage=true":
        return value
    parts = parse_connection_string(value)
    protocol, account = parts.get("defaultendpointsprotocol", "https"), parts.get("accountname", "")
    address = f"{protocol}://{account}.table.{parts.get('endpointsuffix', 'core.windows.net')}"
    table_endpoint(parts.get("tableendpoint", address))
    if account and "accountkey" in parts:
        _access_key(parts["accountkey"])
    elif "sharedaccesssignature" not in parts or not (account or "tableendpoint" in parts):
        raise ValueError("neither a key nor a signature")
    return value
