"""Tampers with tokens in one way at a time, so that tests can check that each is refused."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from local_azure.encoding import encode_base64url
from local_azure.entra.accounts import CONTOSO, FABRIKAM, name_issuer
from local_azure.signing import KeyRing, SigningKey

TokenKind = Literal["id", "access"]
Claims = dict[str, object]

PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
ONE_MEGABYTE = 1 << 20
ROGUE_KEYS_PATH = "/rogue/keys"


@dataclass(frozen=True)
class Tampering:
    """One way to tamper with a token; the kind `claims` overrides its claims, and null removes one."""

    kind: str
    claims: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an unknown kind with ValueError."""
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(sorted(KINDS))}")


class Forge:
    """The tamperings planned for the next tokens, and the code that applies them."""

    def __init__(self, keys: KeyRing, tls_origin: str) -> None:
        """Forge tokens that claim to be signed by `keys`."""
        self.keys = keys
        self.tls_origin = tls_origin
        self._lock = threading.Lock()
        self._waiting: list[tuple[TokenKind, Tampering]] = []

    def plan(self, kind: TokenKind, tampering: Tampering, times: int) -> None:
        """Tamper with the next `times` tokens of this kind."""
        with self._lock:
            self._waiting += [(kind, tampering)] * times

    def take(self, kind: TokenKind) -> Tampering | None:
        """Return the tampering for this token, or None."""
        with self._lock:
            for index, (wanted, tampering) in enumerate(self._waiting):
                if wanted == kind:
                    del self._waiting[index]
                    return tampering
            return None

    def clear(self) -> None:
        """Remove all planned tamperings."""
        with self._lock:
            self._waiting.clear()

    @cached_property
    def rogue_key(self) -> SigningKey:
        """A key that is never published."""
        return SigningKey.generate("rogue")

    def make(self, claims: Claims, tampering: Tampering) -> str:
        """Return a tampered token with these claims."""
        if tampering.kind == "claims":
            changed = {**claims, **tampering.claims}
            return self.keys.current.sign(
                {name: value for name, value in changed.items() if value is not None}
            )
        if tampering.kind in _CLAIM_CHANGES:
            return self.keys.current.sign(_CLAIM_CHANGES[tampering.kind](self, claims))
        return _FORGERIES[tampering.kind](self, claims)


def _change(**changes: object) -> Callable[[Forge, Claims], Claims]:
    return lambda forge, claims: claims | changes


def _remove(name: str) -> Callable[[Forge, Claims], Claims]:
    return lambda forge, claims: {key: value for key, value in claims.items() if key != name}


def _move_times(start: int, end: int) -> Callable[[Forge, Claims], Claims]:
    def move(forge: Forge, claims: Claims) -> Claims:
        now = int(time.time())
        return claims | {"iat": now + start, "nbf": now + start, "exp": now + end}

    return move


def _swap_tenant(forge: Forge, claims: Claims) -> Claims:
    return claims | {"tid": FABRIKAM if claims["tid"] == CONTOSO else CONTOSO}


def _sign_with_unknown_key(forge: Forge, claims: Claims) -> str:
    return forge.rogue_key.sign(claims)


def _spoil_signature(forge: Forge, claims: Claims) -> str:
    """Name the published key, but sign with another."""
    published = forge.keys.current.thumbprint
    return forge.rogue_key.sign(claims, kid=published, x5t=published)


def _sign_none(forge: Forge, claims: Claims) -> str:
    return _encode({"alg": "none", "typ": "JWT"}, claims) + "."


def _sign_with_public_key(forge: Forge, claims: Claims) -> str:
    """Sign with HS256 and the public key as the secret, which deceives verifiers that trust `alg`."""
    key = forge.keys.current
    text = _encode({"alg": "HS256", "typ": "JWT", "kid": key.thumbprint}, claims)
    return f"{text}.{encode_base64url(hmac.digest(key.public_pem, text.encode('ascii'), hashlib.sha256))}"


def _embed_key(forge: Forge, claims: Claims) -> str:
    return forge.rogue_key.sign(claims, kid=forge.keys.current.thumbprint, jwk=forge.rogue_key.jwk)


def _point_to_keys(forge: Forge, claims: Claims) -> str:
    return forge.rogue_key.sign(claims, jku=f"{forge.tls_origin}{ROGUE_KEYS_PATH}")


def _encode(header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    parts = (json.dumps(part).encode("utf-8") for part in (header, claims))
    return ".".join(encode_base64url(part) for part in parts)


_CLAIM_CHANGES: dict[str, Callable[[Forge, Claims], Claims]] = {
    "wrong-aud": _change(aud="7ec97fd6-be68-4cac-9172-0c0ffee0f001"),
    "wrong-iss": _change(iss="https://login.attacker.example/v2.0"),
    "wrong-tid": _swap_tenant,
    "personal-tenant": lambda forge, claims: (
        claims | {"tid": PERSONAL_TENANT, "iss": name_issuer(forge.tls_origin, PERSONAL_TENANT)}
    ),
    "expired": _move_times(-7200, -3600),
    "not-yet-valid": _move_times(3600, 7200),
    "wrong-nonce": _change(nonce="not-the-nonce-that-was-asked-for"),
    "no-nonce": _remove("nonce"),
    "no-oid": _remove("oid"),
    "malformed-oid": _change(oid="../' or '1' eq '1"),
    "malformed-tid": lambda forge, claims: (
        claims | {"tid": "not/a/guid", "iss": name_issuer(forge.tls_origin, "not/a/guid")}
    ),
    "v1": lambda forge, claims: claims | {"ver": "1.0", "iss": f"https://sts.windows.net/{claims['tid']}/"},
    "oversized-name": _change(name="x" * ONE_MEGABYTE),
}
_FORGERIES: dict[str, Callable[[Forge, Claims], str]] = {
    "unknown-kid": _sign_with_unknown_key,
    "bad-signature": _spoil_signature,
    "alg-none": _sign_none,
    "hs256-with-public-key": _sign_with_public_key,
    "embedded-jwk": _embed_key,
    "jku": _point_to_keys,
    "garbage": lambda forge, claims: "this is not a JSON Web Token",
}
KINDS = frozenset({"claims", *_CLAIM_CHANGES, *_FORGERIES})
