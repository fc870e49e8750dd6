"""The ingestion endpoint takes what exporters send, and keeps what has its key."""

import gzip
import json
import re

import pytest
import requests

from tests.support.local_azure import LocalAzure

LINES = [{"name": "first"}, {"name": "second"}]


def send(local_azure: LocalAzure, body: bytes, **headers: str) -> requests.Response:
    (origin,) = re.findall("IngestionEndpoint=(.*)", local_azure.telemetry_connection_string)
    return local_azure.make_session().post(f"{origin}v2.1/track", data=body, headers=headers, timeout=10)


def envelopes(local_azure: LocalAzure) -> list[dict[str, str]]:
    (key,) = re.findall("InstrumentationKey=([^;]*)", local_azure.telemetry_connection_string)
    return [{"iKey": key, **line} for line in LINES]


@pytest.mark.parametrize("form", ["array", "lines", "gzip"])
def test_ingestion_keeps_envelopes(local_azure: LocalAzure, form: str) -> None:
    local_azure.clear_envelopes()
    sent = envelopes(local_azure)
    body = json.dumps(sent).encode()
    headers = {}
    if form == "lines":
        body = "\n".join(map(json.dumps, sent)).encode()
    if form == "gzip":
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    response = send(local_azure, body, **headers)
    assert (response.status_code, response.json()) == (
        200,
        {"itemsReceived": 2, "itemsAccepted": 2, "errors": []},
    )
    assert local_azure.list_envelopes() == sent


def test_ingestion_refuses_other_keys(local_azure: LocalAzure) -> None:
    local_azure.clear_envelopes()
    sent = envelopes(local_azure)
    response = send(local_azure, json.dumps([sent[0], {**sent[1], "iKey": "another"}]).encode())
    assert response.status_code == 206
    assert [error["index"] for error in response.json()["errors"]] == [1]
    assert local_azure.list_envelopes() == sent[:1]
    local_azure.clear_envelopes()
    assert local_azure.list_envelopes() == []
