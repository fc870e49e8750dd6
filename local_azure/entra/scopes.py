"""The scopes that an app may request: those of OpenID Connect and of one resource."""

from dataclasses import dataclass
from typing import Literal

from local_azure.entra.errors import EntraError
from local_azure.entra.registration import APP_SCOPE, WEB_CLIENT_ID

Resource = Literal["graph", "app", "teams"]

TEAMS_AUDIENCE = "https://auth.msft.communication.azure.com"
TEAMS_SCOPES = ("Teams.ManageCalls", "Teams.ManageChats")
OPENID_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
_GRAPH = "https://graph.microsoft.com/"
_PREFIXES: dict[str, tuple[Resource, tuple[str, ...]]] = {
    f"api://{WEB_CLIENT_ID}/": ("app", (APP_SCOPE,)),
    f"{WEB_CLIENT_ID}/": ("app", (APP_SCOPE,)),
    f"{TEAMS_AUDIENCE}/": ("teams", TEAMS_SCOPES),
}


@dataclass(frozen=True)
class Scopes:
    """The scopes of one request; `names` are those of `resource`, without its prefix."""

    text: str
    openid: frozenset[str]
    resource: Resource
    names: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Scopes":
        """Read a `scope` parameter. Raises EntraError for an unknown scope or two resources."""
        resources: dict[Resource, list[str]] = {}
        for scope in text.split():
            if scope in OPENID_SCOPES:
                continue
            resource, names = _resolve(scope)
            resources.setdefault(resource, []).extend(names)
        if len(resources) > 1:
            raise EntraError(
                "invalid_scope",
                28000,
                "Provided value for the input parameter scope is not valid because it contains more than one"
                " resource.",
            )
        resource, found = next(iter(resources.items()), ("graph", []))
        return cls(text, OPENID_SCOPES & set(text.split()), resource, tuple(dict.fromkeys(found)))


def _resolve(scope: str) -> tuple[Resource, tuple[str, ...]]:
    for prefix, (resource, names) in _PREFIXES.items():
        if scope.startswith(prefix):
            name = scope.removeprefix(prefix)
            if name == ".default":
                return resource, names
            if name in names:
                return resource, (name,)
            break
    else:
        name = scope.removeprefix(_GRAPH)
        if "/" not in name:
            return "graph", (name,)
    raise EntraError(
        "invalid_scope", 70011, f"The provided request must include a valid 'scope': {scope} is not."
    )
