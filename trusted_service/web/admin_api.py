"""The administrators' API: what their pages do, for programs."""

from collections.abc import Callable
from uuid import UUID

from flask import Blueprint, Response, jsonify

from trusted_service.errors import NotFound
from trusted_service.models import Actor, UserId
from trusted_service.representation import unknown_user_json, user_json
from trusted_service.web import user_search
from trusted_service.web.audience import administrator
from trusted_service.web.context import actor, services

bp = Blueprint("admin_api", __name__, url_prefix="/api/admin")

USER = "/users/<uuid:tenant_id>/<uuid:object_id>"


@bp.get("/users")
@administrator
def users() -> Response:
    """A page of users; `q` finds by a beginning of the name or user name, or by an id."""
    query, place = user_search.read("q", "status")
    page = services().directory.page(query, place)
    return jsonify(users=[user_json(user) for user in page.users], next=user_search.next_cursor(query, page))


@bp.get(USER)
@administrator
def user(tenant_id: UUID, object_id: UUID) -> Response:
    identity = services().lookup.find(UserId(str(tenant_id), str(object_id)))
    if identity is None:
        raise NotFound
    return jsonify(user_json(identity))


@bp.post(f"{USER}/block")
@administrator
def block(tenant_id: UUID, object_id: UUID) -> Response:
    return _act(services().administration.block, tenant_id, object_id)


@bp.post(f"{USER}/unblock")
@administrator
def unblock(tenant_id: UUID, object_id: UUID) -> Response:
    return _act(services().administration.unblock, tenant_id, object_id)


@bp.post(f"{USER}/revoke")
@administrator
def revoke(tenant_id: UUID, object_id: UUID) -> Response:
    return _act(services().administration.revoke, tenant_id, object_id)


@bp.post(f"{USER}/sign-out")
@administrator
def sign_out(tenant_id: UUID, object_id: UUID) -> Response:
    return _act(services().administration.sign_out, tenant_id, object_id)


@bp.post(f"{USER}/delete")
@administrator
def delete(tenant_id: UUID, object_id: UUID) -> tuple[str, int]:
    services().administration.delete(actor(), UserId(str(tenant_id), str(object_id)))
    return "", 204


def _act(action: Callable[[Actor, UserId], None], tenant_id: UUID, object_id: UUID) -> Response:
    user_id = UserId(str(tenant_id), str(object_id))
    action(actor(), user_id)
    identity = services().lookup.find(user_id)
    return jsonify(unknown_user_json(user_id) if identity is None else user_json(identity))
