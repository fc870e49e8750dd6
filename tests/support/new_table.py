"""A table that nobody else uses, as the service opens it."""

import uuid
from collections.abc import Mapping

from tests.support.settings import OF_ITS_OWN
from trusted_service.azure import transport
from trusted_service.settings import Settings
from trusted_service.storage.account import StorageAccount
from trusted_service.storage.tables import Table


def new_table(settings: Mapping[str, str]) -> Table:
    """Open it; the first row that is written makes it."""
    account = StorageAccount(Settings.from_env({**settings, **OF_ITS_OWN}), None, transport.new_session(8))
    return account.open(f"own{uuid.uuid4().hex}")
