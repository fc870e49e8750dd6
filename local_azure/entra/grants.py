"""Authorization codes and refresh tokens: each can be used once, even by concurrent requests."""

import secrets
import threading
import time
from dataclasses import dataclass, replace

from local_azure.entra.scopes import Scopes

CODE_SECONDS = 600
REFRESH_SECONDS = 90 * 24 * 3600
SPA_REFRESH_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Grant:
    """The permissions that a user granted to an app."""

    client_id: str
    username: str
    scopes: Scopes
    sid: str
    redirect_uri: str = ""
    nonce: str | None = None
    challenge: str | None = None
    challenge_method: str = "plain"


@dataclass(frozen=True)
class _Entry:
    grant: Grant
    expires_at: float


class OneTimeGrants:
    """Grants behind random values, each taken at most once."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._taken: set[str] = set()

    def add(self, grant: Grant, lifetime: int) -> str:
        """Return a new random value for `grant`, valid for `lifetime` seconds."""
        value = f"1.{secrets.token_urlsafe(48)}"
        with self._lock:
            self._entries[value] = _Entry(grant, time.time() + lifetime)
        return value

    def find(self, value: str) -> Grant | None:
        """Return the grant for `value` without using it up, or None if unknown or expired."""
        with self._lock:
            entry = self._entries.get(value)
        return entry.grant if entry is not None and entry.expires_at > time.time() else None

    def take(self, value: str) -> Grant | None:
        """Return the grant for `value` to exactly one caller, and None to all others."""
        with self._lock:
            entry = self._entries.pop(value, None)
            if entry is None:
                return None
            self._taken.add(value)
        return entry.grant if entry.expires_at > time.time() else None

    def was_taken(self, value: str) -> bool:
        """Tell whether `value` was valid and has been used."""
        with self._lock:
            return value in self._taken


def narrow(grant: Grant, scopes: Scopes, nonce: str | None = None) -> Grant:
    """Return the grant with other scopes, and without the members for redeeming a code."""
    return replace(grant, scopes=scopes, nonce=nonce, challenge=None, redirect_uri="")
