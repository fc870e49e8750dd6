"""The Flask app of the local Entra ID, which serves the TLS origin and the one for browsers."""

from urllib.parse import urlsplit

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue

from local_azure.entra import authorize, discovery, identity, logout, token
from local_azure.entra.errors import EntraError, make_fault_body
from local_azure.entra.registration import LOOPBACK_HOSTS
from local_azure.entra.service import EntraId
from local_azure.faults import Faults
from local_azure.journal import Journal
from local_azure.watch import Watch, name_operation

CORS_OPERATIONS = {"discovery", "keys", "token"}
PAGE_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; frame-src http: https:"


def create_app(entra: EntraId, journal: Journal, faults: Faults) -> Flask:
    """Return the app that serves `entra`."""
    app = Flask("local_azure")
    app.extensions["entra"] = entra
    app.json.sort_keys = False  # type: ignore[attr-defined]  # only the default provider has it
    Watch("entra", journal, faults, make_fault_body).install(app)
    for module in (authorize, discovery, identity, logout, token):
        app.register_blueprint(module.bp)
    app.register_error_handler(EntraError, _handle_error)
    app.after_request(_add_headers)
    return app


def _handle_error(error: EntraError) -> ResponseReturnValue:
    return jsonify(error.to_json()), error.status


def _add_headers(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        response.headers["Cache-Control"] = "no-store"
    origin = request.headers.get("Origin", "")
    if name_operation() in CORS_OPERATIONS and _is_loopback(origin):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Headers"] = request.headers.get(
            "Access-Control-Request-Headers", ""
        )
        response.headers["Vary"] = "Origin"
    return response


def _is_loopback(origin: str) -> bool:
    """Tell whether the caller is a page on loopback, where single-page apps are registered."""
    return urlsplit(origin).hostname in LOOPBACK_HOSTS
