"""A table that nobody else uses, as the service opens it."""

import uuid
from collections.abc import Mapping

from trusted_service import connections
from trusted_service.config import Settings
from trusted_service.storage.tables import Table, open_tables


def new_table(settings: Mapping[str, str]) -> Table:
    """Open it; the first row that is written makes it."""
    own = {"PUBLIC_URL": "http://localhost:8000", "SECRET_KEY": "only-for-tests-0123456789abcdefgh"}
    table_storage = Settings.from_env({**settings, **own}).table_storage
    return open_tables(table_storage, None, connections.new_session(8))(f"own{uuid.uuid4().hex}")
