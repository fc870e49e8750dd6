"""Health probes: of the process, and of what it depends on."""

from flask import Blueprint, Response, jsonify

from trusted_service.web.http.context import services
from trusted_service.web.http.problems import HEADERS
from trusted_service.web.openapi.models import Health, Operation, Readiness
from trusted_service.web.security.audiences import public

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@public
@Operation("health", Health)
def healthz() -> Response:
    """Tell whether the process serves."""
    # For App Service's health check. Touches nothing: a storage hiccup must not restart every instance.
    return jsonify(status="ok")


@bp.get("/readyz")
@public
@Operation("readiness", Readiness, statuses=(200, 503))
def readyz() -> tuple[Response, int, dict[str, str]]:
    """Tell whether the upstreams respond."""
    failures = services().readiness.failures()
    states = {name: "failing" if failure else "ok" for name, failure in failures.items()}
    status = 503 if any(failures.values()) else 200
    return jsonify(states), status, HEADERS.get(status, {})
