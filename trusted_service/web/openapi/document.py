"""The description of the API as OpenAPI 3.1: every route under /api, and those that watch over the service.

It is made from the settings where answers depend on them. Tests compare it with the routes there
are, and what they answer with what it says. https://spec.openapis.org/oas/v3.1.1.html
"""

from typing import Any

from trusted_service.config import Settings
from trusted_service.web.openapi.paths import TAGS, paths
from trusted_service.web.openapi.problems import problem_headers, problem_responses
from trusted_service.web.openapi.schemas import OBJECT, TENANT, schemas

Document = dict[str, Any]

ABOUT = """\
Signs people in with Entra ID and hands each one tokens for their own Communication Services identity.

Call it from a page of this origin with the browser's session (unsafe methods carry `X-CSRFToken`, its value
from `GET /api/me`), or from anywhere with an Entra ID access token for this service as bearer; where that
header is present cookies do not count. Errors are problem details (RFC 9457): look at `code`."""


def openapi_document(settings: Settings) -> Document:
    """Return the whole description."""
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Trusted service for Azure Communication Services",
            "version": "1.0.0",
            "description": ABOUT,
        },
        "servers": [{"url": settings.public_url}],
        "tags": [{"name": name} for name in TAGS],
        "paths": paths(),
        "components": {
            "schemas": schemas(settings),
            "responses": problem_responses(),
            "headers": problem_headers(),
            "parameters": {
                "tenantId": _path_id("tenantId", TENANT),
                "objectId": _path_id("objectId", OBJECT),
            },
            "securitySchemes": _security_schemes(settings),
        },
    }


def _path_id(name: str, example: str) -> Document:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
        "example": example,
    }


def _security_schemes(settings: Settings) -> Document:
    cookie = "__Host-session" if settings.https else "session"
    return {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": f"An Entra ID access token for {settings.entra.client_id} with the scope"
            f" {settings.api_scope}.",
        },
        "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "From /auth/sign-in."},
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRFToken",
            "description": "`csrfToken` of GET /api/me; only with the cookie.",
        },
    }
