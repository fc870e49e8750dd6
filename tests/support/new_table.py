"""A table that no other test uses, opened as the service does."""

import uuid
from collections.abc import Mapping

from tests.support.settings import OWN_SETTINGS
from trusted_service.azure import transport
from trusted_service.settings import Settings
from trusted_service.storage.account import StorageAccount
from trusted_service.storage.tables import Table


def new_table(settings: Mapping[str, str]) -> Table:
    """Open the table; the first write creates it."""
    account = StorageAccount(Settings.from_env({**settings, **OWN_SETTINGS}), None, transport.new_session(8))
    return account.open(f"own{uuid.uuid4().hex}")
