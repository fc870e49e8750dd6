"""A stand-in for the host of Azure Functions: `python -m tests.support.functions_host PORT`.

It calls the functions of function_app.py with what the library's own converters make of a request. Requests
and responses change as in the published sources of the host (WebJobs.Script, October 2024) and of the Python
worker (azure-functions-runtime 1.3.0).
"""

import json
import sys
import traceback
from collections.abc import Sequence
from http.cookies import Morsel
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlsplit

from azure.functions import AuthLevel, FunctionApp, HttpMethod
from azure.functions.http import HttpRequestConverter, HttpResponseConverter
from azure.functions.meta import Datum

from function_app import app
from tests.support.service import ROOT

HOST = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
PREFIX = "/" + HOST["extensions"]["http"].get("routePrefix", "api")
CLIENT = "203.0.113.7:52044"
"""App Service's front end appends the client's address and port."""


def find_functions(app: FunctionApp) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return each function with its trigger, by name."""
    found = {}
    for function in app.get_functions():
        trigger = function.get_trigger()
        assert trigger is not None
        found[str(function.get_function_name())] = function.get_user_function(), trigger.get_dict_repr()
    return found


FUNCTIONS = find_functions(app)


class Handler(BaseHTTPRequestHandler):
    """One request to the host."""

    protocol_version = "HTTP/1.1"

    def respond(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        function, trigger = FUNCTIONS["http"]
        assert trigger["route"] == "{*route}"
        if path == "/admin/functions/work":  # the host's own way to run a timer
            FUNCTIONS["work"][0](None)
            self.send(202)
        elif not path.startswith(PREFIX) or HttpMethod[self.command] not in trigger["methods"]:
            self.send(404)
        elif trigger["authLevel"] is not AuthLevel.ANONYMOUS:
            self.send(401)
        else:
            try:
                response = function(self.read(body), None)
            except Exception as error:
                traceback.print_exception(error)
                self.send(500)
            else:
                self.write(HttpResponseConverter.encode(response, expected_type=None).value)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = respond  # noqa: N815

    def read(self, body: bytes) -> Any:
        """Return the request as the worker passes it on: with one value for each header."""
        headers: dict[str, str] = {}
        for name, value in (*self.headers.items(), ("X-Forwarded-For", CLIENT)):
            if value:
                headers[name.lower()] = (
                    f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
                )
        url = f"http://{self.headers['Host']}{self.path}"
        text = {"method": Datum(self.command, "string"), "url": Datum(url, "string")}
        maps = {"headers": {name: Datum(value, "string") for name, value in headers.items()}}
        document = text | maps | {"query": {}, "params": {}, "body": Datum(body, "bytes")}
        return HttpRequestConverter.decode(Datum(document, "http"), trigger_metadata={})

    def write(self, response: dict[str, Any]) -> None:
        """Send a response as the worker gives it to the host, which writes cookies in its own way."""
        headers = [(name, header.value) for name, header in response["headers"].items()]
        for cookie in response["cookies"] or ():
            headers += [("Set-Cookie", write_cookie(morsel)) for morsel in cookie.values()]
        self.send(int(response["status_code"].value), headers, response["body"].value)

    def send(self, status: int, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> None:
        self.send_response_only(status)
        length = (
            ()
            if "content-length" in (name.lower() for name, _ in headers)
            else (("content-length", str(len(body))),)
        )
        for name, value in (*headers, *length):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def write_cookie(cookie: "Morsel[str]") -> str:
    """Return the header of ASP.NET Core's `Response.Cookies.Append`, which escapes the value."""
    known = {
        "expires": cookie["expires"],
        "max-age": cookie["max-age"],
        "path": cookie["path"],
        "samesite": str(cookie["samesite"]).lower(),
    }
    parts = [f"{cookie.key}={quote(cookie.value, safe='')}"]
    parts += [f"{name}={value}" for name, value in known.items() if value]
    return "; ".join([*parts, *(name for name in ("secure", "httponly") if cookie[name])])


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
