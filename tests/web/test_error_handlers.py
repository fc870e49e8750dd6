"""Error handlers: internal errors, and an upstream's Retry-After."""

import time

import pytest
from flask import Flask
from jinja2 import UndefinedError
from werkzeug.http import http_date

from tests.support.local_azure import LocalAzure
from tests.support.log import read_event
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.service import Service
from tests.support.settings import REQUIRED
from trusted_service.app import create_app
from trusted_service.settings import Settings
from trusted_service.web.security.audiences import public

DATE, LATE_DATE, PAST_DATE = (http_date(time.time() + hours * 3600) for hours in (23, 25, -1))
PASSED_ON = ["7", "86400", "0", DATE, PAST_DATE]
REPLACED = [
    *(None, "", "soon", "-1", "1.5", "1e3", "1, 2", "inf", "²", "86401", "99999999999", "9" * 400, LATE_DATE),
    *("Wed, 99 Foo 2099 07:28:00 GMT", "1 Jan 2099 00:00:00 GMT junk <b>", "21 Oct 2099 07:28:00 GMT"),
    *("Mon, 1 Jan 0 0:0:0 -9999999", "Mon, 01 Jan 99999999999 00:00:00 GMT"),
]


def test_valid_upstream_retry_after_is_passed_on(azure: LocalAzure, shared_user: Person) -> None:
    for sent in PASSED_ON + REPLACED:
        azure.plant_fault("acs", "issue", "status", status=429, retryAfter=sent)
        response = shared_user.token()
        assert_problem(response, 503, "upstream_throttled")
        assert response.headers["Retry-After"] == (sent if sent in PASSED_ON else "5"), sent


@pytest.mark.parametrize("text", ["{{ nothing }}", "{{ {}.nothing }}", "{% if nothing %}{% endif %}"])
def test_unknown_name_in_a_template_is_an_error(application: Flask, text: str) -> None:
    with pytest.raises(UndefinedError, match="nothing"):
        application.jinja_env.from_string(text).render()


def test_refused_call_is_logged_with_its_ids(
    azure: LocalAzure, shared_user: Person, service: Service
) -> None:
    azure.plant_fault("acs", "issue", "status", status=403, code="Forbidden")
    refused = shared_user.token()
    event = read_event(service, refused, "upstream_error")
    assert event["reason"] == "HTTP 403 Forbidden"
    assert event["ms_cv"]
    assert_problem(refused, 503, "upstream_unavailable")
    assert event["ms_cv"] not in refused.text


@pytest.mark.parametrize("path", ["/api/broken", "/broken"])
def test_internal_error_reveals_no_details(path: str) -> None:
    @public
    def fail() -> str:
        raise RuntimeError("canary-7f3a")

    app = create_app(Settings.from_env(REQUIRED))
    app.add_url_rule(path, view_func=fail)
    response = app.test_client().get(path)
    assert response.status_code == 500
    assert "Something went wrong on our side." in response.text
    assert "canary-7f3a" not in response.text
    assert "RuntimeError" not in response.text
    assert response.headers["X-Request-ID"] in response.text
