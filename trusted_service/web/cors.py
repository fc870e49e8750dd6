"""Pages of the origins in CORS_ORIGINS may call the API with a bearer token, and never with a cookie.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

import re

from flask import Flask, Response, request
from flask_cors import CORS

from trusted_service.config import Settings
from trusted_service.web.problem import is_api

METHODS = ("GET", "HEAD", "POST", "DELETE")
REQUEST_HEADERS = ("Authorization", "Content-Type")
EXPOSED_HEADERS = ("Date", "Retry-After", "WWW-Authenticate", "X-Request-ID")
"""`Date` lets a client count a token's life down without trusting its own clock."""
PREFLIGHT_SECONDS = 600


def init_app(app: Flask, settings: Settings) -> None:
    if not settings.cors_origins:
        return
    CORS(
        app,
        resources=re.compile(r"/api(/|\Z)"),
        # As patterns: of plain text, Flask-CORS would take every spelling with other letter cases.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins],
        methods=METHODS,
        allow_headers=REQUEST_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age=PREFLIGHT_SECONDS,
        supports_credentials=False,
        always_send=False,
        vary_header=False,
        # Errors pass through the same hook as every other answer.
        intercept_exceptions=False,
    )
    app.after_request(_vary)


def is_preflight() -> bool:
    """Whether a browser asks what it may send. It does so without credentials."""
    return request.method == "OPTIONS" and is_api(request.path)


def _vary(response: Response) -> Response:
    # Also where this request named no origin: the next one may.
    if is_api(request.path):
        response.vary.add("Origin")
    return response
