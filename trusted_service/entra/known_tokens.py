"""Remembers tokens whose signature was good: clients send the same one for an hour.

A token is known by its hash, and only as long as the keys are those that it was checked with.
"""

import hashlib
import threading
from collections.abc import Mapping

from trusted_service.entra import claims
from trusted_service.entra.metadata import Metadata, SigningKey

MOST = 10_000
"""Tokens that a process remembers. One more, and it starts anew."""

Keys = Mapping[str, SigningKey]


class KnownTokens:
    """Safe to share between threads."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._lock = threading.Lock()
        self._known: dict[bytes, tuple[Keys, claims.Claims]] = {}

    def find(self, token: str) -> claims.Claims | None:
        """The claims of a token that was good, None for any other. Raises TokenInvalid: its time is over."""
        keys, verified = self._known.get(_digest(token), (None, None))
        # Asked for only here: what anybody may have made up must not make us fetch keys.
        if verified is None or keys is not self._metadata.keys():
            return None
        claims.check_times(verified)
        return verified

    def add(self, token: str, verified: claims.Claims, keys: Keys) -> None:
        """Remember a token; `keys` are those there were before it was checked."""
        with self._lock:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[_digest(token)] = (keys, verified)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
