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

PLACEHOLDER = re.compile(
    r"change.?(me|this|it|in)|replace.?(me|this|it|with)|your.{0,9}(secret|key)|place.?holder",
    re.IGNORECASE,
)


def unusable(reason: str) -> PydanticCustomError:
    """A ValueError whose sentence is shown, after the setting's name, instead of its description."""
    return PydanticCustomError("unusable", reason)


def key(value: str) -> str:
    """A key that nobody guesses: neither a short text that is repeated nor an example's."""
    repeated = any(value[period:] == value[:-period] for period in range(1, 13))
    if repeated or len(set(value)) < 6 or PLACEHOLDER.search(value):
        raise unusable("must be a random text, neither repeated nor an example's")
    return value


def client_secret(value: str) -> str:
    """https://learn.microsoft.com/entra/identity-platform/quickstart-register-app#add-credentials"""
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("not one line of printable ASCII")
    return value


def _read_certificates(path: str) -> tuple[bytes, list[x509.Certificate]]:
    content = Path(path).read_bytes()
    return content, x509.load_pem_x509_certificates(content)


def certificate(path: str) -> str:
    try:
        content, certificates = _read_certificates(path)
        private_key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise unusable("names a file whose key has a password; it must have none") from None
    except (OSError, UnsupportedAlgorithm):
        raise ValueError("not a certificate and its key") from None
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise unusable("names another key than RSA, which Entra ID does not take")
    if certificates[0].public_key() != private_key.public_key():
        raise unusable("names a file that does not begin with the certificate of its key")
    if certificates[0].not_valid_before_utc > datetime.now(UTC):
        raise unusable("names a certificate that is not valid yet")
    if certificates[0].not_valid_after_utc < datetime.now(UTC):
        raise unusable("names a certificate that has expired")
    return path


def end_of_certificate(path: str) -> datetime:
    """When it expires. Raises OSError and ValueError."""
    return _read_certificates(path)[1][0].not_valid_after_utc


def trusted_certificates(path: str, *, may_be_folder: bool) -> None:
    """Raises ValueError if a library would find no certificate there.

    In a folder, OpenSSL looks for names that `openssl rehash` makes.
    """
    try:
        if may_be_folder and os.path.isdir(path):
            found = any(re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name) for name in os.listdir(path))
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(path)
            found = context.cert_store_stats()["x509"] > 0
    except OSError:
        found = False
    if not found:
        raise ValueError("no certificates")
