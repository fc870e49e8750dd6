"""The state of the local Azure: documents by key in SQLite, on disk or in memory.

Each part keeps its working state in Python and writes every change to its `Shelf`, so a restart with the same
data folder finds everything. A write-ahead log without disk syncs survives the death of the process, which
is enough here, and keeps a write at about twenty microseconds.
"""

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

Document = dict[str, object]


class Store:
    """A SQLite database of JSON documents, shared by all threads."""

    def __init__(self, path: Path | None) -> None:
        """Open the database at `path`, or one in memory if it is None."""
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path if path is not None else ":memory:", check_same_thread=False, isolation_level=None
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents"
            " (shelf TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (shelf, key)) WITHOUT ROWID"
        )

    def shelf(self, name: str) -> "Shelf":
        """Return the documents filed under `name`."""
        return Shelf(self, name)

    def execute(self, statement: str, *values: str) -> list[tuple[str, str]]:
        """Run one statement and return its rows."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the database; later calls fail."""
        with self._lock:
            self._connection.close()


class Shelf:
    """The documents of one part."""

    def __init__(self, store: Store, name: str) -> None:
        """Use the documents of `store` filed under `name`."""
        self._store = store
        self._name = name

    def read_all(self) -> dict[str, Document]:
        """Return every document by its key, in the order of the keys."""
        rows = self._store.execute(
            "SELECT key, value FROM documents WHERE shelf = ? ORDER BY key", self._name
        )
        return {key: json.loads(value) for key, value in rows}

    def find(self, key: str) -> Document | None:
        """Return one document, or None."""
        rows = self._store.execute(
            "SELECT key, value FROM documents WHERE shelf = ? AND key = ?", self._name, key
        )
        return json.loads(rows[0][1]) if rows else None

    def write(self, key: str, document: Mapping[str, object]) -> None:
        """Create or replace one document."""
        self._store.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", self._name, key, json.dumps(document)
        )

    def remove(self, key: str) -> None:
        """Remove one document if it exists."""
        self._store.execute("DELETE FROM documents WHERE shelf = ? AND key = ?", self._name, key)
