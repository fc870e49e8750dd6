"""Keeps the canary of services from calling upstreams in the middle of a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from azure.core.exceptions import AzureError
from azure.data.tables import TableServiceClient

SECONDS = 10.0
ROW = {"PartitionKey": "resource", "RowKey": "canary"}


@contextmanager
def taken_turns(tables: TableServiceClient) -> Iterator[None]:
    """Take each turn, as another instance would."""
    ended = threading.Event()

    def take() -> None:
        while not ended.wait(SECONDS):
            with suppress(AzureError):
                tables.get_table_client("ledger").upsert_entity({**ROW, "AcsUserId": ""})

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()
