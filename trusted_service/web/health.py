"""Whether the process serves, and whether what it depends on answers."""

from flask import Blueprint, Response, jsonify

from trusted_service.web.audience import public
from trusted_service.web.context import services

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@public
def healthz() -> Response:
    """For App Service's health check. Touches nothing: a storage hiccup must not restart every instance."""
    return jsonify(status="ok")


@bp.get("/readyz")
@public
def readyz() -> tuple[Response, int]:
    failures = services().readiness.failures()
    states = {name: "failing" if failure else "ok" for name, failure in failures.items()}
    return jsonify(states), 503 if any(failures.values()) else 200
