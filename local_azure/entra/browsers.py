"""The browsers' sessions at Entra ID."""

import secrets
import threading
import uuid
from dataclasses import dataclass, field


@dataclass
class EntraSession:
    """One account signed in in one browser; `sid` goes into its tokens."""

    username: str
    sid: str
    client_ids: set[str] = field(default_factory=set)


class Browsers:
    """The sessions of each browser, found by the value of its cookie."""

    def __init__(self) -> None:
        """Start without browsers."""
        self._lock = threading.Lock()
        self._sessions: dict[str, dict[str, EntraSession]] = {}

    def list_sessions(self, cookie: str) -> list[EntraSession]:
        """Return the sessions of one browser, oldest first."""
        with self._lock:
            return list(self._sessions.get(cookie, {}).values())

    def join(self, cookie: str, username: str, client_id: str) -> tuple[str, EntraSession]:
        """Sign an account in, or continue its session; return the cookie to set and the session."""
        with self._lock:
            if cookie not in self._sessions:
                cookie = secrets.token_urlsafe(32)
            browser = self._sessions.setdefault(cookie, {})
            if username not in browser:
                browser[username] = EntraSession(username, str(uuid.uuid4()))
            session = browser[username]
            session.client_ids.add(client_id)
            return cookie, session

    def leave(self, cookie: str, username: str | None) -> list[EntraSession]:
        """End the session of one account, or all if `username` is None; return the ended sessions."""
        with self._lock:
            browser = self._sessions.get(cookie, {})
            names = list(browser) if username is None else [name for name in browser if name == username]
            return [browser.pop(name) for name in names]
