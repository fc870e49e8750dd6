"""The administrator who runs jobs."""

from collections.abc import Callable

import pytest

from tests.support.admin_client import ROLE
from tests.support.jobs import JobAdmin
from tests.support.person import Person


@pytest.fixture(scope="session")
def job_admin(new_person: Callable[..., Person]) -> JobAdmin:
    return JobAdmin(new_person(roles=[ROLE], name="Root").signed_in())
