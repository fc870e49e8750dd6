"""A warm `POST /api/token` runs few modules of the service."""

import sys
from pathlib import Path
from types import FrameType

from flask import Flask

import trusted_service
from tests.support.cookies import SESSION
from tests.support.person import Person

PACKAGE = Path(trusted_service.__file__).parent
MAX_MODULES = 18


def test_warm_token_uses_few_modules(application: Flask, mapped_user: Person) -> None:
    files: set[str] = set()

    def record(frame: FrameType, _event: str, _argument: object) -> None:
        files.add(frame.f_code.co_filename)

    browser, csrf = application.test_client(), mapped_user.csrf_headers()
    browser.set_cookie(SESSION, mapped_user.http.cookies[SESSION])
    assert browser.post("/api/token", headers=csrf).status_code == 200
    sys.setprofile(record)
    try:
        assert browser.post("/api/token", headers=csrf).status_code == 200
    finally:
        sys.setprofile(None)
    modules = {file for file in files if Path(file).is_relative_to(PACKAGE)}
    assert len(modules) <= MAX_MODULES, "\n".join(sorted(modules))
