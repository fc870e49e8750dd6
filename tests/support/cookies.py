"""Raw cookie headers, without the cookie handling of a client library."""

from collections.abc import Mapping
from dataclasses import dataclass

import requests

SESSION = "trusted-service-session"
"""The name of the session's cookie over http."""


@dataclass(frozen=True, kw_only=True)
class SetCookie:
    """One `Set-Cookie` header; names of `attributes` in lower case, flags with an empty value."""

    name: str
    value: str
    attributes: Mapping[str, str]


def read_cookies(response: requests.Response) -> dict[str, SetCookie]:
    """Return the cookies that this response sets, by name; each may be set only once."""
    cookies: dict[str, SetCookie] = {}
    for header in response.raw.headers.getlist("Set-Cookie"):
        (name, _, value), *rest = (part.strip().partition("=") for part in header.split(";"))
        assert name not in cookies
        attributes = {attribute.lower(): content for attribute, _, content in rest}
        cookies[name] = SetCookie(name=name, value=value, attributes=attributes)
    return cookies


def send_cookies(url: str, header: str | bytes) -> requests.Response:
    """GET with exactly this `Cookie` header, without following redirects."""
    return requests.get(url, headers={"Cookie": header}, allow_redirects=False, timeout=30)
