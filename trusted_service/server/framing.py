"""Tells whether a request has arrived. It refuses nothing: what is malformed goes to gunicorn's parser."""

import re
from enum import Enum, auto

MAX_BODY = 63 * 1024
"""Bytes of a body that are collected without a thread; gunicorn discards 64 KB that nothing has read."""

# A bare line feed ends no head, but gunicorn refuses it at once. RFC 9112 section 2.2.
_HEAD_ENDS = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*+(\d++)[ \t]*+\r?\n")
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Arrival(Enum):
    """How much of a request is there."""

    PARTIAL = auto()
    WHOLE = auto()
    LONG = auto()
    """The head is there, and only a thread can read the body."""


class Framing:
    """What is known of a connection's next request. Each byte is looked at once, however slowly it comes."""

    def __init__(self) -> None:
        self._searched = 0
        self._size: int | None = None  # of the request, or of its head if a thread must read the body
        self._is_chunked = self._is_long = False

    def judge(self, received: bytearray) -> Arrival:
        """Return how much of the request `received` holds, which only grows."""
        if self._size is None:
            found = _HEAD_ENDS.search(received, max(0, self._searched - 2))
            self._searched = len(received)
            if found is None:
                return Arrival.PARTIAL
            self._read_head(bytes(received[: found.end()]).lower())
        if self._is_chunked:
            # It may only seem to end: a thread waits for the rest, if there is a place.
            return Arrival.WHOLE if received.endswith(_LAST_CHUNK) else Arrival.LONG
        if self._size is not None and len(received) >= self._size:
            return Arrival.WHOLE
        return Arrival.LONG if self._is_long else Arrival.PARTIAL

    def _read_head(self, head: bytes) -> None:
        self._is_chunked = b"\ntransfer-encoding:" in head
        length = _LENGTH.search(head)
        # Python refuses to convert thousands of digits.
        size = 0 if length is None else int(length[1]) if len(length[1]) < 10 else MAX_BODY + 1
        self._size = len(head) + size
        # A client that expects "100 Continue" sends no body before gunicorn has sent that.
        self._is_long = size > MAX_BODY or b"\nexpect:" in head
