"""The list of users without an index: read from all rows, in the same order and with the same places."""

import heapq
import time
from collections.abc import Iterable, Iterator

from trusted_service.errors import ListNotReady
from trusted_service.models import Identity
from trusted_service.user_query import Place, UserPage, UserQuery, find_key

SECONDS = 6.0
"""What a scan may take of a request's time: the answer leaves within 15 s, after a wait for the index."""


def scan_page(identities: Iterable[Identity], query: UserQuery, place: Place, size: int) -> UserPage:
    """The page that comes after the place, with no more than a page of users in memory.

    Raises ListNotReady where the rows are too many to be read in SECONDS.
    """
    first = heapq.nsmallest(size + 1, _placed(identities, query, place.key), key=lambda placed: placed[0])
    page = first[:size]
    more = Place(key=page[-1][0], began=place.began) if len(first) > size else None
    return UserPage(users=[user for _, user in page], next=more)


def _placed(identities: Iterable[Identity], query: UserQuery, after: str) -> Iterator[tuple[str, Identity]]:
    ends = time.monotonic() + SECONDS
    for identity in identities:
        key = find_key(query, identity)
        if key is not None and key > after:
            yield key, identity
        if time.monotonic() > ends:
            raise ListNotReady
