"""A table that nobody else uses, as the service opens it."""

import uuid
from collections.abc import Mapping

from tests.support.settings import OF_ITS_OWN
from trusted_service import connections
from trusted_service.config import Settings
from trusted_service.storage.tables import Table, Tables


def new_table(settings: Mapping[str, str]) -> Table:
    """Open it; the first row that is written makes it."""
    table_storage = Settings.from_env({**settings, **OF_ITS_OWN}).table_storage
    tables = Tables.connect(table_storage, None, connections.new_session(8), may_create=True)
    return tables.open(f"own{uuid.uuid4().hex}")
