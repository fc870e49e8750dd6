"""What stands in requests and answers, as JSON Schema, and an example of each.

https://json-schema.org/draft/2020-12/json-schema-core
"""

from collections.abc import Mapping
from typing import Any

from trusted_service.config import Settings

Schema = dict[str, Any]

TENANT, OBJECT = "5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001", "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
IDENTITY = "8:acs:6b1f0d52-8a34-4c0e-9d57-1f2e3d4c5b6a_0e9d8c7b-6a5f-4e3d-8c2b-1a0f9e8d7c6b"

USER_EXAMPLE = {
    "tenantId": TENANT,
    "objectId": OBJECT,
    "name": "Alice Example",
    "username": "alice@contoso.example",
    "communicationUserId": IDENTITY,
    "createdAt": "2026-01-31T08:00:00Z",
    "lastTokenAt": "2026-01-31T09:30:00Z",
    "blocked": False,
}
EXAMPLES: Mapping[str, Any] = {
    "Me": {
        "user": {
            "tenantId": TENANT,
            "objectId": OBJECT,
            "name": "Alice Example",
            "username": "alice@contoso.example",
            "roles": [],
        },
        "communicationUserId": IDENTITY,
        "csrfToken": None,
    },
    "TokenRequest": {"scopes": ["chat"], "expiresInMinutes": 60},
    "Token": {
        "token": "<Communication Services access token>",
        "expiresOn": "2026-01-31T10:30:00Z",
        "user": {"communicationUserId": IDENTITY},
        "scopes": ["chat"],
    },
    "TeamsTokenRequest": {"teamsUserAadToken": "<Entra ID access token with a Teams scope>"},
    "TeamsToken": {
        "token": "<Communication Services access token>",
        "expiresOn": "2026-01-31T10:30:00Z",
    },
    "User": USER_EXAMPLE,
    "UserPage": {"users": [USER_EXAMPLE], "next": None},
    "Export": {
        "user": USER_EXAMPLE,
        "blockReason": "",
        "identities": [
            {
                "communicationUserId": IDENTITY,
                "since": "2026-01-31T08:00:01Z",
                "until": None,
                "reason": None,
            }
        ],
        "sessions": [
            {
                "createdAt": "2026-01-31T08:00:00Z",
                "seenAt": "2026-01-31T09:30:00Z",
                "address": "192.0.2.7",
                "userAgent": "Mozilla/5.0",
                "roles": [],
            }
        ],
        "audit": [
            {
                "at": "2026-01-31T08:00:01Z",
                "action": "identity-created",
                "outcome": "done",
                "actorKind": "system",
                "actor": "system",
                "actorName": "",
                "target": f"{TENANT}/{OBJECT}",
                "detail": IDENTITY,
                # pragma: allowlist nextline secret (made up)
                "requestId": "0123456789abcdef0123456789abcdef",
            }
        ],
    },
    "Health": {"status": "ok"},
    "Readiness": {"entraId": "ok", "tableStorage": "ok", "communicationServices": "failing"},
}


def schemas(settings: Settings) -> dict[str, Schema]:
    """Every schema by name. What a token may have is as this service is set up."""
    scopes = _array({"type": "string", "enum": list(settings.token_scopes)}, minItems=1, uniqueItems=True)
    identity = {"type": "string", "description": "Communication Services' own id of an identity."}
    return {
        "Me": _object(
            user=_object(
                tenantId=_guid(), objectId=_guid(), name=_text(), username=_text(), roles=_array(_text())
            ),
            communicationUserId=_or_null(identity, "Null before the first token."),
            csrfToken=_or_null(
                _text(), "What unsafe requests of a browser session carry. Null for a bearer."
            ),
        ),
        "TokenRequest": _object(
            optional=True,
            scopes=scopes | {"description": "All of these by default."},
            expiresInMinutes={
                "type": "integer",
                "minimum": 60,
                "maximum": settings.token_lifetime_minutes,
                "description": f"{settings.token_lifetime_minutes} by default.",
            },
        ),
        "Token": _object(
            token=_text("Opaque; treat it like a password."),
            expiresOn=_time(),
            user=_object(communicationUserId=identity),
            scopes=scopes,
        ),
        "TeamsTokenRequest": _object(
            teamsUserAadToken=_text(
                "The caller's own Entra ID access token with Teams.ManageCalls or Teams.ManageChats.",
                minLength=1,
            )
        ),
        "TeamsToken": _object(token=_text("Opaque; treat it like a password."), expiresOn=_time()),
        "User": _object(
            tenantId=_guid(),
            objectId=_guid(),
            name=_text(),
            username=_text(),
            communicationUserId=_or_null(identity, "Null for a blocked user without an identity."),
            createdAt=_or_null(_time(), "Null where nothing is stored about the user."),
            lastTokenAt=_or_null(_time(), "To within five minutes. Null before the first token."),
            blocked={"type": "boolean"},
        ),
        "UserPage": _object(
            users=_array({"$ref": "#/components/schemas/User"}, maxItems=50),
            next=_or_null(_text(), "The cursor of the next page, or null."),
        ),
        "Export": _object(
            user={"$ref": "#/components/schemas/User"},
            blockReason=_text(),
            identities=_array({"$ref": "#/components/schemas/Identity"}),
            sessions=_array({"$ref": "#/components/schemas/Session"}),
            audit=_array({"$ref": "#/components/schemas/Event"}),
        ),
        "Identity": _object(
            communicationUserId=_text("One that the user has or had."),
            since=_or_null(_time(), "When the user got it."),
            until=_or_null(_time(), "When it stopped being the current one."),
            reason=_or_null(_text(), "Why it did: replaced or moved."),
        ),
        "Session": _object(
            createdAt=_time(), seenAt=_time(), address=_text(), userAgent=_text(), roles=_array(_text())
        ),
        "Event": _object(
            at=_time(),
            action=_text(),
            outcome={"type": "string", "enum": ["started", "done", "failed"]},
            actorKind=_text(),
            actor=_text(),
            actorName=_text(),
            target=_or_null(_text(), "<tenant id>/<object id>."),
            detail=_text(),
            requestId=_text(),
        ),
        "Health": _object(status={"type": "string", "const": "ok"}),
        "Readiness": _object(entraId=_state(), tableStorage=_state(), communicationServices=_state()),
        "Problem": _object(
            type={"type": "string", "const": "about:blank"},
            title=_text("The status in words."),
            status={"type": "integer", "minimum": 400, "maximum": 599},
            detail=_text("A sentence for people, in their language."),
            code=_text("What programs look at."),
            requestId=_text("Stands in the service's log and in X-Request-ID."),
        ),
    }


def _object(*, optional: bool = False, **members: Schema) -> Schema:
    """An object with these members and no others, all required unless `optional`."""
    required = {} if optional else {"required": list(members)}
    return {"type": "object", "properties": members, **required, "additionalProperties": False}


def _array(items: Schema, **limits: object) -> Schema:
    return {"type": "array", "items": items, **limits}


def _text(description: str = "", **limits: object) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **limits}


def _guid() -> Schema:
    return {"type": "string", "format": "uuid"}


def _time() -> Schema:
    return {"type": "string", "format": "date-time", "description": "RFC 3339, in UTC, to the second."}


def _state() -> Schema:
    return {"type": "string", "enum": ["ok", "failing"]}


def _or_null(schema: Schema, description: str) -> Schema:
    return schema | {"type": [schema["type"], "null"], "description": description}
