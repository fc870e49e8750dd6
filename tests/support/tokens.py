"""Fake tokens, and the audience of Microsoft Teams."""

import base64
import json
import time

TEAMS = "https://auth.msft.communication.azure.com"


def make_token(seconds: int) -> str:
    """Return a token that expires in `seconds`; clients read it without checking its signature."""
    parts = [{"alg": "RS256", "typ": "JWT"}, {"exp": int(time.time()) + seconds}]
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*texts, "c2lnbmF0dXJl"])
