"""Signs and encrypts what a browser keeps. What was made with a key of SECRET_KEY_FALLBACKS stays valid."""

import base64
import contextlib
import functools
import hashlib
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Flask, current_app
from itsdangerous import Signer

from trusted_service.settings import Settings


def init_app(app: Flask, settings: Settings) -> None:
    """Configure the keys, and the prefix and the attributes of each cookie."""
    # Not as SECRET_KEY, or Flask would read our cookie as its own session.
    app.config["KEYS"] = settings.secret_keys
    app.config["COOKIE_PREFIX"] = cookie_prefix(settings)
    app.config["COOKIE_ATTRIBUTES"] = {"secure": settings.https, "httponly": True, "samesite": "Lax"}


def cookie_prefix(settings: Settings) -> str:
    """`__Host-` makes browsers refuse the cookie from another host, path or plain http.

    Over http, which is localhost, other programs share our cookies, and many name theirs `session`.
    https://www.rfc-editor.org/rfc/rfc6265bis#name-the-__host-prefix
    """
    return "__Host-" if settings.https else "trusted-service-"


def signer(app: Flask, purpose: str) -> Signer:
    """A signature made for one purpose is not valid for another."""
    keys = app.config["KEYS"][::-1]  # itsdangerous signs with the last one
    return Signer(keys, salt=purpose, key_derivation="hmac", digest_method=hashlib.sha256)


def encrypt(purpose: str, text: str) -> str:
    """What is made for one purpose cannot be read for another. The time is legible."""
    # No padding, as the host of Azure Functions escapes it in cookies.
    return cipher(current_app.config["KEYS"], purpose).encrypt(text.encode()).decode().rstrip("=")


def decrypt(purpose: str, value: str, max_age: int | None = None) -> tuple[str, int]:
    """Return the text and when it was encrypted, in seconds. Raises InvalidToken, also after `max_age`."""
    key = cipher(current_app.config["KEYS"], purpose)
    token = value.encode(errors="replace") + b"=" * (-len(value) % 4)
    with contextlib.suppress(ValueError):  # not base64
        # Fernet ignores what base64 does not need.
        if base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)) == token:
            return key.decrypt(token, max_age).decode(), key.extract_timestamp(token)
    raise InvalidToken


@functools.lru_cache
def cipher(keys: Sequence[str], purpose: str) -> MultiFernet:
    """Encrypts with the first key. https://www.rfc-editor.org/rfc/rfc5869.html"""
    derived = (HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(key.encode()) for key in keys)
    return MultiFernet(Fernet(base64.urlsafe_b64encode(key)) for key in derived)
