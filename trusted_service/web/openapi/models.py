"""The bodies of requests and responses: models that validate requests and generate the JSON Schema of all.

Views make responses as plain dicts, which costs less; tests compare them with these models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from trusted_service.web.security.audiences import View

TENANT, OBJECT = "5c2f0b1a-7d34-4e86-9a1b-0c0ffee0c001", "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
KEY = f"{TENANT}/{OBJECT}"
IDENTITY = "8:acs:6b1f0d52-8a34-4c0e-9d57-1f2e3d4c5b6a_0e9d8c7b-6a5f-4e3d-8c2b-1a0f9e8d7c6b"

AcsUserId = Annotated[str, Field(description="An id of Communication Services.", examples=[IDENTITY])]
Time = Annotated[datetime, Field(description="RFC 3339, in UTC.", examples=["2026-01-31T09:30:00Z"])]
# pragma: allowlist nextline secret (made up)
RequestId = Annotated[str, Field(examples=["0123456789abcdef0123456789abcdef"])]
State = Literal["ok", "failing"]


def _check_unique(scopes: list[str]) -> list[str]:
    if len(set(scopes)) < len(scopes):
        raise PydanticCustomError("not_unique", "repeated")
    return scopes


class Model(BaseModel):
    """An object with exactly these members. Only requests need a validator that is built at once."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True, defer_build=True)

    @classmethod
    def members(cls) -> list[str]:
        return [str(field.alias) for field in cls.model_fields.values()]


@dataclass(frozen=True, slots=True)
class Operation:
    """A decorator: what the description of a view needs beyond its route, audience and docstring."""

    operation_id: str
    response: type[Model] | None = None
    request: type[Model] | None = None
    statuses: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()  # beyond those of every operation
    query: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # JSON Schemas by parameter

    def __call__(self, view: View) -> View:
        view.operation = self  # type: ignore[attr-defined]
        return view


class TokenRequest(Model):
    scopes: list[str]
    expires_in_minutes: int


@cache
def token_request(scopes: tuple[str, ...], maximum: int) -> type[TokenRequest]:
    """The model with the scopes and the lifetime that the settings allow, which are the defaults too."""
    allowed = Literal[scopes]  # type: ignore[valid-type]
    checks = Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_check_unique)
    return create_model(
        "TokenRequest",
        __base__=TokenRequest,
        __cls_kwargs__={"defer_build": False},
        scopes=(Annotated[list[allowed], *checks], list(scopes)),
        # https://learn.microsoft.com/rest/api/communication/identity/communication-identity/issue-access-token
        expires_in_minutes=(int, Field(default=maximum, ge=60, le=maximum)),
    )


class TeamsTokenRequest(Model, defer_build=False):
    teams_user_aad_token: str = Field(
        min_length=1,
        description="The caller's own Entra ID access token with Teams.ManageCalls or Teams.ManageChats.",
        examples=["<Entra ID access token>"],
    )


class Person(Model):
    tenant_id: UUID = Field(examples=[TENANT])
    object_id: UUID = Field(examples=[OBJECT])
    name: str = Field(examples=["Alice Example"])
    username: str = Field(examples=["alice@contoso.example"])


class SignedInUser(Person):
    roles: list[str]


class Me(Model):
    user: SignedInUser
    communication_user_id: AcsUserId | None = Field(description="Null before the first token.")
    csrf_token: str | None = Field(description="For `X-CSRFToken`. Null for a bearer token.")


class TeamsToken(Model):
    token: str = Field(description="Opaque; treat it like a password.", examples=["<access token>"])
    expires_on: Time


class TokenUser(Model):
    communication_user_id: AcsUserId


class Token(TeamsToken):
    user: TokenUser
    scopes: list[str] = Field(examples=[["chat"]])


class User(Person):
    communication_user_id: AcsUserId | None = Field(description="Null for a blocked user without identity.")
    created_at: Time | None = Field(description="Null where nothing is stored about the user.")
    last_token_at: Time | None = Field(
        description="Up to five minutes behind; in lists, up to 24 hours. Null before the first token."
    )
    blocked: bool


class UserPage(Model):
    users: list[User] = Field(max_length=50)
    next: str | None = Field(description="The cursor of the next page.")


class Identity(TokenUser):
    since: Time | None = Field(description="When the user got it.")
    until: Time | None = Field(description="When it stopped being the current one.")
    reason: str | None = Field(description="Why it stopped: replaced or moved.", examples=["moved"])


class Session(Model):
    name: str
    username: str
    login_hint: str | None
    created_at: Time
    seen_at: Time
    last_token_at: Time | None
    address: str = Field(examples=["192.0.2.7"])
    user_agent: str = Field(examples=["Mozilla/5.0"])
    roles: list[str]


class Event(Model):
    """About the caller, or the outcome of what they did to others, who are left out."""

    at: Time
    action: str = Field(examples=["identity-created"])
    outcome: Literal["started", "done", "failed"]
    actor_kind: str = Field(examples=["administrator"])
    actor: str | None = Field(description="The caller; null for anybody else.", examples=[KEY])
    target: str | None = Field(description="The caller; null for anybody else.", examples=[KEY])
    detail: str
    request_id: RequestId


class Job(Model):
    """A bulk action with a row about the caller, or one that they started."""

    action: Literal["block", "delete"]
    state: str = Field(examples=["done"])
    created_at: Time
    ended_at: Time | None
    started_by_you: bool
    reason: str
    check: str | None = Field(description="What the dry run found.", examples=["found"])
    result: str | None = Field(examples=["done"])
    detail: str


class Export(Model):
    user: User
    block_reason: str
    administrator_seen_at: Time | None = Field(
        description="When the user last came as an administrator, to the day; null for never."
    )
    identities: list[Identity]
    sessions: list[Session]
    audit: list[Event]
    jobs: list[Job]
    complete: bool = Field(description="False if there is more than a request can read: ask an operator.")


class Health(Model):
    status: Literal["ok"]


class Readiness(Model):
    entra_id: State
    table_storage: State
    communication_services: State


class Description(Model):
    model_config = ConfigDict(extra="allow")
    openapi: str = Field(examples=["3.1.1"])


class Problem(Model):
    """Problem details (RFC 9457)."""

    type: Literal["about:blank"]
    title: str = Field(description="The status in words.")
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="A sentence for people, in their language.")
    code: str = Field(description="For programs.")
    request_id: RequestId = Field(description="Also in the service's log and in `X-Request-ID`.")
