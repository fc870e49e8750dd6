"""The list of users without an index: read from all rows, in the same order and with the same keys."""

import heapq
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial

from trusted_service import upstream
from trusted_service.errors import ListNotReady, UpstreamError
from trusted_service.models import Identity
from trusted_service.storage.identities import PARTS, IdentityTable
from trusted_service.user_query import Place, UserPage, UserQuery, find_key

SECONDS = 6.5
"""What a scan may take of a request's time, of which the wait for the index has taken up to three."""
READERS = 4

Keyed = tuple[str, Identity]


def scan_page(identities: IdentityTable, query: UserQuery, place: Place, size: int) -> UserPage:
    """The page that comes after the place, with no more than a page of users of each part in memory.

    Raises ListNotReady where the rows are too many to be read in SECONDS.
    """
    ends = time.monotonic() + SECONDS
    try:
        with upstream.at_most(SECONDS), ThreadPoolExecutor(READERS) as pool:
            read = partial(_read_part, identities, query, place, size, ends)
            reads = [pool.submit(copy_context().run, read, digit) for digit in PARTS]
            parts = [one.result() for one in reads]
    except UpstreamError as error:
        if time.monotonic() < ends:
            raise
        raise ListNotReady from error
    first = heapq.nsmallest(size + 1, itertools.chain(*parts), key=lambda keyed: keyed[0])
    page = first[:size]
    more = Place(key=page[-1][0], began=place.began) if len(first) > size else None
    return UserPage(users=[user for _, user in page], next=more)


def _read_part(
    identities: IdentityTable, query: UserQuery, place: Place, size: int, ends: float, digit: str
) -> list[Keyed]:
    found = _keyed(identities.part(digit), query, place, ends)
    return heapq.nsmallest(size + 1, found, key=lambda keyed: keyed[0])


def _keyed(identities: Iterator[Identity], query: UserQuery, place: Place, ends: float) -> Iterator[Keyed]:
    for identity in identities:
        if time.monotonic() > ends:
            raise ListNotReady
        key = find_key(query, identity)
        if key is not None and key > place.key:
            yield key, identity
