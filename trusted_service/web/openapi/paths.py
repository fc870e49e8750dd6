"""The operations of the description, by path."""

from typing import Any

from trusted_service.web.openapi.operation import answer, body, operation, public, query

Paths = dict[str, Any]

OWN, ADMINISTRATION, SERVICE = "Own identity", "Administration", "Service"
TAGS = (OWN, ADMINISTRATION, SERVICE)

USER_PATH = "/api/admin/users/{tenantId}/{objectId}"
ACTIONS = {
    "block": ("Keep a user out", "Also one who never came. Ends sessions and revokes tokens."),
    "unblock": ("Let a user in again", ""),
    "revoke": ("Revoke a user's tokens", ""),
    "sign-out": ("End a user's sessions", ""),
    "delete": ("Erase a user", "The same whether or not there is anything to erase. A block stays."),
}


def paths() -> Paths:
    """Every path there is to describe."""
    return _own_paths() | _administration_paths() | _service_paths()


def _own_paths() -> Paths:
    return {
        "/api/me": {
            "get": operation(OWN, "Who the caller is", answer(200, "Me"), operation_id="getMe"),
            "delete": operation(
                OWN,
                "Erase the caller",
                answer(204),
                operation_id="deleteMe",
                unsafe=True,
                description="Identity, mapping and sessions go; a browser is signed out.",
            ),
        },
        "/api/token": {
            "post": operation(
                OWN,
                "Get a token for one's own identity",
                answer(200, "Token"),
                operation_id="createToken",
                unsafe=True,
                request=body("TokenRequest", required=False),
                errors=(400, 415, 429),
                description="The first one creates the identity.",
            )
        },
        "/api/token/teams": {
            "post": operation(
                OWN,
                "Exchange one's own Teams token",
                answer(200, "TeamsToken"),
                operation_id="exchangeTeamsToken",
                unsafe=True,
                request=body("TeamsTokenRequest", required=True),
                errors=(400, 415, 429),
                description="Another user's is `forbidden`; one that is not good `invalid_request`.",
            )
        },
        "/api/me/revoke": {
            "post": operation(
                OWN,
                "Revoke one's own tokens",
                answer(204),
                operation_id="revokeMe",
                unsafe=True,
                description="Communication Services takes up to 15 minutes to refuse them everywhere.",
            )
        },
        "/api/me/export": {
            "get": operation(
                OWN, "All that is stored about the caller", answer(200, "Export"), operation_id="exportMe"
            )
        },
    }


def _administration_paths() -> Paths:
    in_path = [{"$ref": f"#/components/parameters/{name}"} for name in ("tenantId", "objectId")]
    paths: Paths = {
        "/api/admin/users": {
            "get": operation(
                ADMINISTRATION,
                "Find users",
                answer(200, "UserPage"),
                operation_id="listUsers",
                errors=(400,),
                parameters=[
                    query("q", "Beginning of a name or user name, an object id, or an identity."),
                    query("status", "Only these.", enum=["active", "blocked"]),
                    query("cursor", "`next` of the page before."),
                ],
                description="All, the newest first. Takes the admin role, as all of these do; an app-only"
                " token with it will do.",
            )
        },
        USER_PATH: {
            "parameters": in_path,
            "get": operation(
                ADMINISTRATION, "One user", answer(200, "User"), operation_id="getUser", errors=(404,)
            ),
        },
    }
    for action, (summary, description) in ACTIONS.items():
        paths[f"{USER_PATH}/{action}"] = {
            "parameters": in_path,
            "post": operation(
                ADMINISTRATION,
                summary,
                answer(204) if action == "delete" else answer(200, "User"),
                operation_id="signOutUser" if action == "sign-out" else f"{action}User",
                unsafe=True,
                errors=(404,),
                description=description,
            ),
        }
    return paths


def _service_paths() -> Paths:
    return {
        "/healthz": {"get": public(SERVICE, "Whether the process serves", "health", answer(200, "Health"))},
        "/readyz": {
            "get": public(
                SERVICE,
                "Whether what it depends on answers",
                "readiness",
                answer(200, "Readiness") | answer(503, "Readiness"),
            )
        },
        "/openapi.json": {
            "get": public(
                SERVICE,
                "This description",
                "description",
                {
                    "200": {
                        "description": "OK",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
            )
        },
    }
