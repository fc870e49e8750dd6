"""HTTP as bytes on a connection, for requests that no client library sends."""

import http.client
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class RawResponse:
    """A response as received; `headers` joins those of one name."""

    status: int
    headers: dict[str, str]
    body: bytes


def send_raw(url: str, request: bytes) -> RawResponse:
    """Send these bytes; return the first response other than 100."""
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 80), timeout=30) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        headers = {name: ", ".join(response.headers.get_all(name, [])) for name in response.headers}
        return RawResponse(status=response.status, headers=headers, body=response.read())


def send_lines(
    url: str, request_line: str, *lines: str, body: bytes = b"", host: str | None = None
) -> RawResponse:
    """Send a request with exactly this first line and, besides Host, Connection and length, these headers."""
    fixed = [f"Host: {urlsplit(url).netloc if host is None else host}", "Connection: close"]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        fixed.append(f"Content-Length: {len(body)}")
    text = "\r\n".join([request_line, *fixed, *lines, "", ""])
    return send_raw(url, text.encode("latin-1") + body)
