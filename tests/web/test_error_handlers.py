"""Error handlers: internal errors, and an upstream's Retry-After."""

import pytest

from tests.support.local_azure import LocalAzure
from tests.support.person import Person
from tests.support.problems import assert_problem
from tests.support.settings import REQUIRED
from trusted_service.app import create_app
from trusted_service.settings import Settings
from trusted_service.web.security.audiences import public

DATE = "Wed, 21 Oct 2099 07:28:00 GMT"
PAST_DATE = "Thu, 01 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        ("7", "7"), ("86400", "86400"), (DATE, DATE), (None, "5"), ("soon", "5"), ("-1", "5"),
        ("1.5", "5"), ("86401", "5"), ("9999999", "5"), ("Wed, 99 Foo 2099 07:28:00 GMT", "5"),
        ("0", "0"), (PAST_DATE, PAST_DATE), ("", "5"), ("inf", "5"), ("²", "5"), ("9" * 400, "5"),
        ("1 Jan 2099 00:00:00 GMT junk <b>", "5"), ("21 Oct 2099 07:28:00 GMT", "5"),
    ],
)  # fmt: skip
def test_valid_upstream_retry_after_is_passed_on(
    azure: LocalAzure, shared_user: Person, sent: str | None, passed_on: str
) -> None:
    azure.plant_fault("acs", "issue", "status", status=429, retryAfter=sent)
    response = shared_user.token()
    assert_problem(response, 503, "upstream_throttled")
    assert response.headers["Retry-After"] == passed_on


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
