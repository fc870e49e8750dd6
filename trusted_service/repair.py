"""Finds and mends what a crash can leave behind. Doing it again finds nothing more.

- A user whom searches do not find, or find under what they were called before.
- A key of the index that leads to nobody.
- A block or deletion that was cut short: it is finished.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from trusted_service.administration import Administration
from trusted_service.indexer import Indexer
from trusted_service.models import Actor, UserId
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.user_entry import Entry, Key
from trusted_service.storage.user_index import USERS, UserIndex


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
        indexer: Indexer,
        administration: Administration,
    ) -> None:
        self._identities = identities
        self._index = index
        self._indexer = indexer
        self._administration = administration

    def run(self, actor: Actor, *, dry_run: bool) -> Iterator[Finding]:
        """Yield each finding; it has been mended by the end, unless this is a dry run.

        Holds a number for each key of the index in memory: about half a gigabyte for a million users.
        """
        present = {hash(key) for key, _ in self._index.all_keys()}
        wanted: set[int] = set()
        half_deleted: set[UserId] = set()
        for identity in self._identities.all():
            user_id = identity.user_id
            if identity.deleting:
                if not dry_run:
                    self._administration.delete(actor, user_id)
                half_deleted.add(user_id)
                yield Finding(kind="half-deleted", user_id=user_id)
                continue
            keys = _keys(Entry.of(identity))
            wanted.update(map(hash, keys))
            if identity.blocking:
                if not dry_run:
                    self._administration.block(actor, user_id, identity.block_reason)
                yield Finding(kind="half-blocked", user_id=user_id)
            elif not all(hash(key) in present for key in keys):
                if not dry_run:
                    self._indexer.note_changed(user_id)
                yield Finding(kind="not-indexed", user_id=user_id)
        stale: dict[UserId, list[Key]] = {}
        for key, user_id in self._index.all_keys():
            if hash(key) not in wanted and not self._is_wanted(key, user_id):
                stale.setdefault(user_id, []).append(key)
                if user_id not in half_deleted:
                    yield Finding(kind="stale-index-row", user_id=user_id, detail=" ".join(key))
        if not dry_run:
            for user_id, keys_of_user in stale.items():
                self._indexer.note_changed(user_id, keys_of_user)
            self._indexer.finish()

    def _is_wanted(self, key: Key, user_id: UserId) -> bool:
        # The user may have come, or been renamed, since their row was read above.
        identity = self._identities.find(user_id)
        return identity is not None and key in _keys(Entry.of(identity))


def _keys(entry: Entry) -> set[Key]:
    return entry.places() | {(USERS, entry.person)}
