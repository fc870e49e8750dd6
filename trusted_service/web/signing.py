"""Signs what a browser keeps for us, and believes only what the current or an older key signed."""

import hashlib

from itsdangerous import Signer, URLSafeTimedSerializer

from trusted_service.web.context import services


def signer(purpose: str) -> Signer:
    """A signature made for one purpose is worth nothing for another."""
    return Signer(_keys(), salt=purpose, key_derivation="hmac", digest_method=hashlib.sha256)


def serializer(purpose: str) -> URLSafeTimedSerializer:
    """Signs a small JSON document together with the time."""
    return URLSafeTimedSerializer(
        _keys(), salt=purpose, signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
    )


def _keys() -> list[str]:
    return list(reversed(services().settings.secret_keys))  # itsdangerous signs with the last


def cookie_name(name: str) -> str:
    """On https the prefix makes browsers refuse the cookie from another host, path or plain http.

    https://www.rfc-editor.org/rfc/rfc6265bis#name-the-__host-prefix
    """
    return f"__Host-{name}" if services().settings.https else name
