"""The name that a client calls us by (its Host header, or a whole address as the target) plays no part.

Refusing unknown names would refuse App Service's own probes too, which call an instance by its address. So
every request is taken as one to PUBLIC_URL: nothing that comes after can depend on what the client said, and
no name can be so odd that routing fails over it.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class OneHost:
    """WSGI middleware."""

    def __init__(self, app: "WSGIApplication", public_url: str) -> None:
        self._app = app
        self._scheme, self._host, *_ = urlsplit(public_url)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        environ["HTTP_HOST"] = self._host
        environ["wsgi.url_scheme"] = self._scheme
        return self._app(environ, start_response)
