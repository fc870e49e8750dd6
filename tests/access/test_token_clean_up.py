"""Surplus identities of concurrent first tokens are deleted; invalid upstream responses create no row."""

import json
from functools import partial

import pytest

from tests.support.concurrency import run_concurrently, wait_until
from tests.support.own_azure import World
from tests.support.person import Person
from tests.support.problems import assert_problem

REQUESTS = 8


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_lost_race_is_cleaned_up_despite_failures(world: World, signed_in: Person, times: int | None) -> None:
    csrf = signed_in.csrf_headers()
    before = set(world.azure.list_identities())
    world.azure.plant_fault("acs", "create", "delay", seconds=0.3, times=REQUESTS)
    world.azure.plant_fault("acs", "delete", "reset" if times is None else "status", status=500, times=times)
    browsers = [signed_in.at(signed_in.url) for _ in range(REQUESTS)]
    responses = run_concurrently([partial(browser.token, csrf=csrf) for browser in browsers])
    world.azure.clear_faults()
    assert {response.status_code for response in responses} == {200}
    identity = world.identity_of(signed_in)
    assert {response.json()["user"]["communicationUserId"] for response in responses} == {identity}
    wait_until(lambda: set(world.azure.list_identities()) - before == {identity}, seconds=10)


EXPIRY = "2099-01-01T00:00:00.0000000+00:00"
TOKEN = {"token": "header.claims.signature", "expiresOn": EXPIRY}
INVALID_TOKENS: list[object] = ["", "<html>busy</html>", '{"token": "a', "null", [], {}]
INVALID_TOKENS += [{"expiresOn": EXPIRY}, {"token": "x"}, TOKEN | {"token": None}, TOKEN | {"token": ""}]
INVALID_TOKENS += [TOKEN | {"expiresOn": None}, TOKEN | {"expiresOn": "soon"}]
CREATED: dict[str, object] = {"identity": {"id": "8:acs:1_2"}, "accessToken": TOKEN}
INVALID_CREATIONS: list[object] = ["", "<html>", [], {}, {"identity": None}, {"accessToken": TOKEN}]
INVALID_CREATIONS += [CREATED | {"identity": identity} for identity in ({"id": None}, {"id": ""}, {})]
INVALID_CREATIONS += [{"identity": CREATED["identity"]}, CREATED | {"accessToken": None}]
INVALID_CREATIONS += [CREATED | {"accessToken": {}}]


@pytest.mark.parametrize("body", INVALID_TOKENS, ids=json.dumps)
def test_invalid_issue_response_is_an_outage(world: World, shared_user: Person, body: object) -> None:
    world.azure.plant_fault("acs", "issue", "status", status=200, body=body)
    assert_problem(shared_user.token(), 503, "upstream_unavailable")
    assert shared_user.token().status_code == 200


@pytest.mark.parametrize("body", INVALID_CREATIONS, ids=json.dumps)
def test_invalid_create_response_writes_no_row(world: World, signed_in: Person, body: object) -> None:
    csrf = signed_in.csrf_headers()
    world.azure.plant_fault("acs", "create", "status", status=201, body=body)
    assert_problem(signed_in.token(csrf=csrf), 503, "upstream_unavailable")
    assert world.list_rows(signed_in) == []
    assert signed_in.token(csrf=csrf).status_code == 200
