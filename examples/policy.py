"""The content security policy of the examples."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

Settings = Mapping[str, Any]
"""The content of /settings.json; README.md describes each member."""


def write_policy(settings: Settings, *, framed: bool) -> str:
    """Allow connections only to the origins that the settings name.

    Without a refresh token, MSAL renews a sign-in in a hidden frame, which ends on the redirect page: the
    only page that may be `framed`.
    """
    endpoints = [
        address
        for name, address in settings.get("authorityMetadata", {}).items()
        if name.endswith("_endpoint")
    ]
    entra = list_origins([settings["authority"], *endpoints])
    others = list_origins([settings["serviceUrl"], settings["communicationEndpoint"]])
    connect = " ".join(["'self'", *entra, *others, *settings.get("alsoConnectTo", ())])
    ancestors = "'self'" if framed else "'none'"
    # worker-src: the calling client creates its worker from a string.
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; worker-src blob:; "
        f"connect-src {connect}; frame-src 'self' {' '.join(entra)}; frame-ancestors {ancestors}; "
        "form-action 'none'; base-uri 'none'"
    )


def list_origins(addresses: Iterable[str]) -> list[str]:
    """Return the distinct origins of the addresses."""
    parts = [urlsplit(address) for address in addresses]
    return list(dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts))
