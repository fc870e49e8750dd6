"""The routes of the application, with sample values in their paths."""

from dataclasses import dataclass

import requests
from flask import Flask

from tests.support.person import CALL_SECONDS, Person
from trusted_service.users.actions import ACTIONS
from trusted_service.web.security.audiences import Audience, audience_of

SAMPLES = {
    "tenant_id": "00000000-0000-4000-8000-000000000001",
    "object_id": "00000000-0000-4000-8000-000000000002",
    "job_id": "00000000-0000-4000-8000-000000000003",
}


@dataclass(frozen=True)
class Route:
    """A path with one of its methods."""

    path: str
    method: str
    audience: Audience | None = None

    @property
    def is_api(self) -> bool:
        return self.path.startswith("/api/")

    @property
    def is_safe(self) -> bool:
        return self.method in ("GET", "HEAD")

    def call(self, person: Person, **headers: str) -> requests.Response:
        """Call the route with the browser of this person, signed in or not."""
        return person.http.request(
            self.method, person.url + self.path, headers=headers, allow_redirects=False, timeout=CALL_SECONDS
        )


def list_routes(app: Flask) -> list[Route]:
    """Return every route except those that Flask adds itself (OPTIONS)."""
    routes, addresses = [], app.url_map.bind("")
    for rule in app.url_map.iter_rules():
        for action in ACTIONS if "action" in rule.arguments else [""]:
            samples = SAMPLES | {"action": action, "filename": "site.css"}
            path = addresses.build(rule.endpoint, {name: samples[name] for name in rule.arguments})
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                routes.append(Route(path, method, audience_of(app.view_functions[rule.endpoint])))
    return routes
