"""Finds and mends what a crash can leave behind. Doing it again finds nothing more.

- A user whom searches do not find, or find under what they were called before.
- An index row that leads to nobody.
- A block or deletion that was cut short: it is finished.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from trusted_service.administration import Administration
from trusted_service.directory import Directory
from trusted_service.models import Actor, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.user_index import UserIndex, index_keys


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is not as it should be, of one user."""

    kind: Literal["not-indexed", "stale-index-row", "half-blocked", "half-deleted"]
    user_id: UserId
    detail: str = ""


class Repair:
    """Methods raise UpstreamError where an upstream fails; what was mended until then stays mended."""

    def __init__(
        self,
        *,
        identities: IdentityTable,
        index: UserIndex,
        directory: Directory,
        administration: Administration,
    ) -> None:
        self._identities = identities
        self._index = index
        self._directory = directory
        self._administration = administration

    def run(self, actor: Actor, *, dry_run: bool) -> Iterator[Finding]:
        """Yield each finding; it has been mended by then, unless this is a dry run.

        Holds a number for each index row in memory: about half a gigabyte for a million users.
        """
        present = {hash((partition, row)) for partition, row, _ in self._index.all_keys()}
        wanted: set[int] = set()
        for identity in self._identities.all():
            user_id = identity.user_id
            keys = index_keys(identity)
            wanted.update(map(hash, keys))
            if identity.deleting:
                if not dry_run:
                    self._administration.delete(actor, user_id)
                yield Finding(kind="half-deleted", user_id=user_id)
            elif identity.blocking:
                if not dry_run:
                    self._administration.block(actor, user_id, identity.block_reason)
                yield Finding(kind="half-blocked", user_id=user_id)
            elif not all(hash(key) in present for key in keys) or keys != identity.index_keys:
                if not dry_run:
                    self._directory.reindex(user_id, force=True)
                yield Finding(kind="not-indexed", user_id=user_id)
        for partition, row, user_id in self._index.all_keys():
            if hash((partition, row)) not in wanted and not self._is_wanted(partition, row, user_id):
                if not dry_run:
                    self._index.remove([(partition, row)])
                yield Finding(kind="stale-index-row", user_id=user_id, detail=f"{partition} {row}")
        if not dry_run:
            self._index.note_built()

    def _is_wanted(self, partition: str, row: str, user_id: UserId) -> bool:
        # The user may have come, or been renamed, since their row was read above.
        identity = self._identities.find(user_id)
        return identity is not None and (partition, row) in index_keys(identity)
