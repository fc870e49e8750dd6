"""Keys, secrets and certificates: each function returns one that can be used, or raises ValueError."""

import os
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic_core import PydanticCustomError

EXAMPLE = re.compile(
    r"(?i)(change|replace).?(me|this|in)|your.{0,9}(secret|key)|place.?holder|do.?not.?use|abcdefghijkl|"
    r"qwertyuiop|redacted|token_(urlsafe|hex)|urandom|openssl rand|/secrets/|(?-i:\A[a-z+]{5,}:|\A[a-z+]+://)"
)
SEVERAL = re.compile(r"""\[\s*["'][\w+/= -]{32,}.*|[\w+/=-]{32,}(\s*[;|\s]\s*[\w+/=-]{32,})+;?""")
PLACEHOLDER = re.compile(
    r"(?i)[$#]\{.*\}#?|\$\(.*\)|\{\{.*\}\}|<[^<>]*>|\$(env:)?([a-z_]{1,24}|(?-i:[A-Z0-9_]+))|%\w+%|__\w+__|"
    r"\[\w+\(.*\)\]|\((sensitive value|known after apply)\)|hidden value\. .*|(https://\S*/)?[0-]{36}|"
    r"[*•]{3,}|(op|ref\+\w+)://.*|https://[^/]*\.vault\.[^/]*/secrets/.*|(\w+ref|vault|ssm|arn:aws[\w-]*):.*"
)
"""A whole value that a tool or a person was to replace, or that stands for a secret elsewhere."""


def unusable(reason: str) -> PydanticCustomError:
    """A ValueError whose sentence is shown, after the setting's name, instead of its description."""
    return PydanticCustomError("unusable", reason)


def key(value: str) -> str:
    """A key that nobody guesses: neither a short text that is repeated nor an example's."""
    repeated = any(value[period:] == value[:-period] for period in range(1, 13))
    if repeated or len(set(value)) < 6 or EXAMPLE.search(value) or PLACEHOLDER.fullmatch(value):
        raise unusable("must be a random text, neither repeated nor an example's")
    if SEVERAL.fullmatch(value):
        raise ValueError("several keys")
    return value


def read_file(path: str) -> bytes:
    """Raises OSError, also for a pipe or a device, which may never end."""
    if not os.path.isfile(path):
        raise FileNotFoundError("not a file")
    return Path(path).read_bytes()


def certificate(path: str) -> str:
    try:
        content = read_file(path)
        private_key = serialization.load_pem_private_key(content, password=None)
        own = x509.load_pem_x509_certificates(content)[0]
    except (OSError, TypeError, UnsupportedAlgorithm):  # TypeError: the key has a password
        raise ValueError("not a certificate and its key") from None
    if not isinstance(private_key, rsa.RSAPrivateKey) or own.public_key() != private_key.public_key():
        raise ValueError("no RSA key, or that of another certificate")
    if not own.not_valid_before_utc < datetime.now(UTC) < own.not_valid_after_utc:
        raise unusable("names a certificate that has expired or is not valid yet")
    return path


def end_of_certificate(path: str) -> datetime:
    """When it expires. Raises OSError and ValueError."""
    return x509.load_pem_x509_certificates(read_file(path))[0].not_valid_after_utc


def require_trusted_certificates(path: str, *, may_be_folder: bool = False) -> None:
    """Raises OSError if OpenSSL finds none there; of a folder, it reads what `openssl rehash` has named."""
    if not may_be_folder or not os.path.isdir(path):
        read_file(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    elif not any(re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name) for name in os.listdir(path)):
        raise FileNotFoundError("no certificates")
