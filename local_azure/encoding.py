"""base64url, and times as Azure's services write them."""

import base64
import binascii
from datetime import UTC, datetime


def encode_base64url(data: bytes) -> str:
    """Return `data` in base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Return the bytes behind unpadded base64url; ValueError when `text` is something else."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def encode_integer(number: int) -> str:
    """Return a positive integer as base64url of its big-endian bytes (RFC 7518, section 2)."""
    return encode_base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def format_ticks(epoch: float) -> str:
    """Return a time in UTC with seven fractional digits, as .NET services print it."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}0+00:00"
