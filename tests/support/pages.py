"""What every error page looks like."""

import requests
from bs4 import BeautifulSoup

from tests.support.cookies import read_cookies


def assert_error_page(answer: requests.Response, status: int) -> BeautifulSoup:
    """Check that the answer is a whole error page that signs nobody in and is kept nowhere; return it."""
    assert answer.status_code == status, answer.text[:300].split("<title>")[-1]
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Location" not in answer.headers
    assert not [name for name in read_cookies(answer) if name.endswith("session")]
    if status == 503:
        assert answer.headers["Retry-After"]
    page = BeautifulSoup(answer.text, "html.parser")
    assert page.title is not None
    assert page.find("h1") is not None
    assert answer.headers["X-Request-ID"] in answer.text
    assert "Traceback" not in answer.text
    return page
