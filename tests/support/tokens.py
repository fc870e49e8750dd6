"""Fake and forged tokens, and the audience of Microsoft Teams."""

import base64
import json
import time

TEAMS = "https://auth.msft.communication.azure.com"


def make_token(seconds: int) -> str:
    """Return a token that expires in `seconds`; clients read it without checking its signature."""
    parts = [{"alg": "RS256", "typ": "JWT"}, {"exp": int(time.time()) + seconds}]
    return ".".join([*map(_encode, parts), "c2lnbmF0dXJl"])


def forge(headers: dict[str, str], key_id: str) -> dict[str, str]:
    """Return the bearer header with another key id in its token, whose signature is thus invalid."""
    _, _, rest = headers["Authorization"].partition(".")
    return {"Authorization": f"Bearer {_encode({'alg': 'RS256', 'typ': 'JWT', 'kid': key_id})}.{rest}"}


def _encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
