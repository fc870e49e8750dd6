"""Cookies as they stand in the headers, past everything that a client library does for them."""

from collections.abc import Mapping
from dataclasses import dataclass

import requests


@dataclass(frozen=True, kw_only=True)
class SetCookie:
    """One `Set-Cookie` header; names of `attributes` in lower case, flags with an empty value."""

    name: str
    value: str
    attributes: Mapping[str, str]

    @classmethod
    def parse(cls, header: str) -> "SetCookie":
        pair, *rest = header.split(";")
        name, _, value = pair.partition("=")
        attributes = (attribute.strip().partition("=") for attribute in rest)
        return cls(
            name=name,
            value=value,
            attributes={attribute.lower(): content for attribute, _, content in attributes},
        )


def read_cookies(answer: requests.Response) -> dict[str, SetCookie]:
    """Return the cookies that this answer sets, by name; each may be set only once."""
    cookies = [SetCookie.parse(header) for header in answer.raw.headers.getlist("Set-Cookie")]
    by_name = {cookie.name: cookie for cookie in cookies}
    assert len(by_name) == len(cookies)
    return by_name


def send_cookies(url: str, header: str | bytes) -> requests.Response:
    """GET with exactly this `Cookie` header; redirects are not followed."""
    return requests.get(url, headers={"Cookie": header}, allow_redirects=False, timeout=30)
