"""HTTP as bytes on a connection, for requests that no client library sends."""

import http.client
import io
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

CALL_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """An answer as it came. `headers` joins those of one name."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Sent:
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._answer)


def send_raw(url: str, request: bytes) -> RawAnswer:
    """Send these bytes and read until the server closes; the first answer that is not a 100."""
    address = urlsplit(url)
    received = b""
    with socket.create_connection(("127.0.0.1", address.port or 80), timeout=CALL_SECONDS) as connection:
        connection.sendall(request)
        while part := connection.recv(65536):
            received += part
    answer = http.client.HTTPResponse(_Sent(received))  # type: ignore[arg-type]
    answer.begin()
    headers: dict[str, str] = {}
    for name, value in answer.getheaders():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return RawAnswer(status=answer.status, headers=headers, body=answer.read())


def send_lines(
    url: str, request_line: str, *lines: str, body: bytes = b"", host: str | None = None
) -> RawAnswer:
    """Send a request with exactly this first line and these header lines, besides Host and the length."""
    fixed = [f"Host: {urlsplit(url).netloc if host is None else host}", "Connection: close"]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in lines):
        fixed.append(f"Content-Length: {len(body)}")
    text = "\r\n".join([request_line, *fixed, *lines, "", ""])
    return send_raw(url, text.encode("latin-1") + body)
