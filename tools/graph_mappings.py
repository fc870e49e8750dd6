"""Writes the ACS identities that the authentication hero keeps in Microsoft Graph as CSV for `users import`.

GRAPH_TOKEN=… python -m tools.graph_mappings <tenant id> <extension name> > mappings.csv

The token is one for Microsoft Graph that may read all users (`User.Read.All`). Graph has no search by open
extension, so each user is read: https://learn.microsoft.com/graph/api/opentypeextension-get
"""

import csv
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import requests

GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")  # national clouds have other URLs
CALL_SECONDS = 30
DEFAULT_WAIT_SECONDS = 5
COLUMNS = ("tenantId", "objectId", "communicationUserId", "name", "username")


def list_mappings(graph: requests.Session, tenant_id: str, extension: str) -> Iterator[dict[str, str]]:
    """Yield the mapping of each user who has one, in Graph's order."""
    page: str | None = f"{GRAPH}/users?$select=id,displayName,userPrincipalName&$top=999"
    while page:
        users = _get(graph, page)
        for user in users["value"]:
            found = _get(graph, f"{GRAPH}/users/{user['id']}/extensions/{extension}")
            if "acsUserIdentity" in found:
                own = (user["id"], found["acsUserIdentity"], user["displayName"], user["userPrincipalName"])
                yield dict(zip(COLUMNS, (tenant_id, *own), strict=True))
        page = users.get("@odata.nextLink")


def _get(graph: requests.Session, url: str) -> dict[str, Any]:
    """Return the document, or {} if there is none; waits as long as Graph asks when it throttles."""
    while True:
        response = graph.get(url, timeout=CALL_SECONDS)
        if response.status_code in (429, 503):
            time.sleep(int(response.headers.get("Retry-After", DEFAULT_WAIT_SECONDS)))
            continue
        if response.status_code == 404:
            return {}
        response.raise_for_status()
        document: dict[str, Any] = response.json()
        return document


if __name__ == "__main__":
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {os.environ['GRAPH_TOKEN']}"
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(list_mappings(session, *sys.argv[1:]))
