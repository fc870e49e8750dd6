"""The app registrations: the confidential web app, a single-page app, a managed identity."""

import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from local_azure.documents import Members
from local_azure.signing import KeyRing
from local_azure.store import Shelf

WEB_CLIENT_ID = "1b9e6f34-52c7-4d0a-b8e5-0c0ffee0a001"
SPA_CLIENT_ID = "2d7a4c81-6e13-4f5b-9c2d-0c0ffee0a002"
APP_SCOPE = "access_as_user"
SERVICE_PRINCIPAL_ID = "3f8b5d92-7a24-4e6c-8d3e-0c0ffee0a003"
"""The object id of the web app's own service principal, which app-only tokens carry."""
IDENTITY_CLIENT_ID = "4a9c6ea3-8b35-4f7d-9e4f-0c0ffee0a004"
IDENTITY_PRINCIPAL_ID = "5bad7fb4-9c46-4a8e-af50-0c0ffee0a005"
EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
"""The audience of the identity's token that the web app's federated credential trusts."""

LOOPBACK_HOSTS = {"localhost", "127.0.0.1"}
WEB_REDIRECT_URIS = tuple(
    f"{scheme}://{host}{path}"
    for scheme in ("http", "https")
    for host in ("localhost", "127.0.0.1")
    for path in ("/auth/callback", "/")
)


@dataclass(kw_only=True)
class Registration:
    """One app registration: a public client, which has no secret."""

    client_id: str
    name: str
    front_channel_logout_url: str | None = None

    def allows_redirect(self, uri: str) -> bool:
        """Tell whether `uri` is registered, as every path of a plain http loopback origin is."""
        parts = _split_loopback(uri)
        return parts is not None and parts[0] == "http"


@dataclass(kw_only=True)
class WebRegistration(Registration):
    """The registration of the web app, a confidential client."""

    redirect_uris: tuple[str, ...]
    secret: str = field(repr=False)
    certificates: KeyRing = field(repr=False)

    def allows_redirect(self, uri: str) -> bool:
        """Tell whether `uri` is registered.

        The match is exact, except for the port of loopback hosts
        (learn.microsoft.com/entra/identity-platform/reply-url).
        """
        if uri in self.redirect_uris:
            return True
        wanted = _split_loopback(uri)
        return wanted is not None and any(
            _split_loopback(registered) == wanted for registered in self.redirect_uris
        )


class Registrations:
    """The registrations by client id."""

    def __init__(self, shelf: Shelf, certificates: KeyRing) -> None:
        """Load the web app's secret from `shelf`, or create one; its `certificates` are a ring of keys."""
        self._shelf = shelf
        kept = shelf.find("web")
        secret = secrets.token_urlsafe(30) if kept is None else Members(kept).text("secret")
        self.web = WebRegistration(
            client_id=WEB_CLIENT_ID,
            name="Trusted Service",
            redirect_uris=WEB_REDIRECT_URIS,
            secret=secret,
            certificates=certificates,
        )
        self.spa = Registration(client_id=SPA_CLIENT_ID, name="Single-page app")
        self.change_secret(secret)

    def find(self, client_id: str) -> Registration | None:
        """Return the registration with this client id, or None."""
        return next((app for app in (self.web, self.spa) if app.client_id == client_id.lower()), None)

    def change_secret(self, secret: str) -> None:
        """Give the web app another secret; the old one stops working."""
        self.web.secret = secret
        self._shelf.write("web", {"secret": secret})


def _split_loopback(uri: str) -> tuple[str, str, str, str] | None:
    """Return a loopback URI without its port, or None for any other."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if host not in LOOPBACK_HOSTS or parts.username is not None or parts.fragment:
        return None
    return parts.scheme, host, parts.path, parts.query
