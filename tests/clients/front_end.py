"""A front end before the service, or another site."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.http_server import QuietHandler, serving

Answer = tuple[int, bytes, dict[str, str]]
"""Status, body and headers."""


@contextmanager
def front_end(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """Serve these responses in turn, the last one for ever; yields the origin and the requested paths."""
    paths: list[str] = []

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - as http.server calls it
            status, body, headers = answers[min(len(paths), len(answers) - 1)]
            paths.append(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url, paths
