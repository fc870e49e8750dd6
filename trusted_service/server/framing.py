"""Tells whether a request has arrived. It refuses nothing: what is malformed goes to gunicorn's parser."""

import re
from enum import Enum, auto

MAX_BODY = 64 * 1024
"""Bytes of a body that are collected without a thread: more than any route for strangers accepts."""

# A bare line feed ends no head, but gunicorn refuses it at once. RFC 9112 section 2.2.
_HEAD_ENDS = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d+)[ \t]*\r?\n")
_LAST_CHUNK = b"\r\n0\r\n\r\n"


class Arrival(Enum):
    """How much of a request is there."""

    PARTIAL = auto()
    WHOLE = auto()
    LONG = auto()
    """The head is there, and only a thread can read the body."""


def judge(received: bytearray) -> Arrival:
    """Return how much of its first request `received` holds."""
    found = _HEAD_ENDS.search(received)
    if found is None:
        return Arrival.PARTIAL
    head = received[: found.end()].lower()
    if b"\ntransfer-encoding:" in head:
        # It may only seem to end: a thread waits for the rest, if there is a place.
        return Arrival.WHOLE if received.endswith(_LAST_CHUNK) else Arrival.LONG
    length = _LENGTH.search(head)
    if length is None:
        return Arrival.WHOLE
    # Python refuses to convert thousands of digits.
    size = int(length[1]) if len(length[1]) < 10 else MAX_BODY + 1
    if size <= len(received) - found.end():
        return Arrival.WHOLE
    # A client that expects "100 Continue" sends no body before gunicorn has sent that.
    return Arrival.LONG if size > MAX_BODY or b"\nexpect:" in head else Arrival.PARTIAL
