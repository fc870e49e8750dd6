"""Malicious values of `next`: a grammar of open redirects, injections and unsuitable pages of ours."""

from collections.abc import Iterator
from itertools import product

SITE = "https://calls.contoso.example"

# fmt: off
LEADS = (
    "//", "///", "////", "/\\", "\\\\", "\\/", "/\\/", "/\t/", "/\n/", "/\r\n/", "\t//", "\n//", " //",
    "//\t", "\x00//", "/\x00/", "\xa0//", "\ufeff//", "/\u200b/", "/%2f", "/%5c", "%2f%2f", "%5c%5c",
    "/%09/", "/%0a/", "/%2f%2f", "/%252f", "/.//", "/./\\", "/..//", "/%2e%2e//", "/;//", "/@", "/x//", "@",
    "/#//", "\uff0f\uff0f", "/\u2044", "/\u2215", "http:", "https:", "https:/", "https://", "https:///",
    "https:\\\\", "HTTPS://", "hTTps:", "\thttps://", "ht\ntps://", "https:\t//", "http:/\\", "ftp://",
    "ws://", "blob:https://", "view-source:https://", "javascript://", "data://", "//:@", "//user@",
    "//user:password@", "//%00@",
)
HOSTS = (
    "attacker.example", "attacker.example:443", "attacker.example/%2e%2e/", "\u24d0ttacker.example",
    "attacker\u3002example", "xn--ttacker-dxa.example", "localhost.attacker.example",
    "localhost@attacker.example", "localhost:8000@attacker.example", "2130706433", "0x7f.1", "[::1]",
    "[::ffff:192.0.2.1]", "192.0.2.1",
)
SCHEMES = (
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)",
    "\x01javascript:alert(1)", " javascript:alert(1)", "javascript&colon;alert(1)", "vbscript:x",
    "about:blank", "data:text/html,<script>alert(1)</script>", "file:///etc/passwd",
    "mailto:a@attacker.example", "tel:1",
)
PATHS = (
    "//", "///", "//?x=1", "/\\", "\\\\", "//#", "", " ", "\t", ".", "..", "./", "../", "/.", "/..", "/./",
    "/../", "/%2e", "/%2e%2e/", "/..;/", "/x/..", "/x/../", "home", "?x=1", "#x", "/#x", "/;x", "/;x=1",
    "/ ", " /", "/\t", "/\n", "/\x00", "/\x7f", "/\u2028", "/\u202e", "/unknown", "/%2561dmin", "/%61dmin",
    "/admin%2fusers", "/~", "/*", "/\xe9", "/\ud800", "/%ff", "/%", "/index.html",
    "/\r\nSet-Cookie: session=x", "/\nLocation: //attacker.example", "/\r\n\r\n<script>alert(1)</script>",
    "/?x=\r\nSet-Cookie: session=x", "/?x=\n", "/?x=\t", "/?x=\x00", "/?x=\u2028", "/?x=\x85", "/?\ud800=1",
    "/%0d%0aSet-Cookie:%20session=x", "/%E5%98%8A%E5%98%8DSet-Cookie:x=y", "*", "null", "undefined", "0",
)
OUR_OWN = (
    "/auth", "/auth/", "/auth/sign-in", "/auth/sign-in/", "/auth/sign-in?next=/auth/sign-in",
    "/auth/sign-out", "/AUTH/sign-out", "/auth/sign-out?x=/", "/auth//sign-out", "/auth/./sign-out",
    "/auth/sign%2dout", "/auth/callback", "/auth/callback?code=1&state=2", "/auth/callback?error=x",
    "/auth/front-channel-logout?sid=1", "/api", "/api/", "/api/me", "/api/me?x=1", "/api/token", "/API/me",
    "/api/me/export", "/openapi.json", "/healthz", "/readyz", "/static/", "/static/site.css", "/static/../",
    "/static/..%2f", "/bootstrap/static/x.css", "/favicon.ico", "/.auth/login/aad", "/.auth/logout",
    "/.well-known/security.txt",
)
# fmt: on


def hostile_paths() -> Iterator[str]:
    """Yield everything above, with every host after every lead, and overlong paths."""
    yield from (f"{lead}{host}{tail}" for lead, host, tail in product(LEADS, HOSTS, ("", "/", "/?x=1#y")))
    yield from (f"{lead}auth/sign-out" for lead in LEADS)
    yield from (*SCHEMES, *PATHS, *OUR_OWN)
    yield from (f"{SITE}{path}" for path in ("", "/", "/admin/users"))
    yield from (f"/{'x' * 10_000}", f"/?{'x' * 10_000}", "/" * 10_000)
    yield from (f"{'/x' * 2000}/..", "/?" + "x=1&" * 4000)
