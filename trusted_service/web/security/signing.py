"""Signs what a browser keeps. What a key of SECRET_KEY_FALLBACKS signed stays valid."""

import hashlib
from typing import Any

from flask import Flask, current_app
from itsdangerous import Signer, URLSafeTimedSerializer

from trusted_service.settings import Settings

OPTIONS: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}


def init_app(app: Flask, settings: Settings) -> None:
    """Configure the keys, and the prefix and the attributes of each cookie."""
    # itsdangerous signs with the last key. With SECRET_KEY, Flask would read our cookie as its own session.
    app.config["SIGNING_KEYS"] = settings.secret_keys[::-1]
    # The prefix makes browsers refuse the cookie from another host, path or plain http:
    # https://www.rfc-editor.org/rfc/rfc6265bis#name-the-__host-prefix
    app.config["COOKIE_PREFIX"] = "__Host-" if settings.https else ""
    app.config["COOKIE_ATTRIBUTES"] = {"secure": settings.https, "httponly": True, "samesite": "Lax"}


def signer(app: Flask, purpose: str) -> Signer:
    """A signature made for one purpose is not valid for another."""
    return Signer(app.config["SIGNING_KEYS"], salt=purpose, **OPTIONS)


def serializer(purpose: str) -> URLSafeTimedSerializer:
    """Signs a small JSON document together with the time."""
    return URLSafeTimedSerializer(current_app.config["SIGNING_KEYS"], salt=purpose, signer_kwargs=OPTIONS)
