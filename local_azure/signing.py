"""RSA keys that sign tokens, each with a self-signed certificate as Azure publishes them."""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from local_azure.documents import Members
from local_azure.encoding import encode_base64url, encode_integer
from local_azure.store import Shelf

KEY_BITS = 2048
CERTIFICATE_DAYS = 3650


@dataclass(frozen=True, eq=False)
class SigningKey:
    """An RSA private key and its certificate, parsed once."""

    private: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def generate(cls, common_name: str) -> "SigningKey":
        """Create a key and a certificate for `common_name`; takes about 0.1 s."""
        private = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=CERTIFICATE_DAYS))
            .sign(private, hashes.SHA256())
        )
        return cls(private, certificate)

    @classmethod
    def from_pem(cls, private_pem: str, certificate_pem: str) -> "SigningKey":
        """Load a key that `private_pem` and `certificate_pem` printed."""
        private = load_pem_private_key(private_pem.encode("ascii"), password=None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise TypeError("not an RSA key")
        return cls(private, x509.load_pem_x509_certificate(certificate_pem.encode("ascii")))

    @property
    def private_pem(self) -> str:
        """The private key in PKCS #8."""
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem.decode("ascii")

    @property
    def certificate_pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")

    @cached_property
    def public(self) -> rsa.RSAPublicKey:
        """The public key."""
        return self.private.public_key()

    @cached_property
    def public_pem(self) -> bytes:
        """The public key in SubjectPublicKeyInfo."""
        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @cached_property
    def thumbprint(self) -> str:
        """The certificate's SHA-1 thumbprint in base64url, which is `x5t` and Entra ID's `kid`."""
        der = self.certificate.public_bytes(Encoding.DER)
        return encode_base64url(hashlib.sha1(der, usedforsecurity=False).digest())

    @cached_property
    def sha256_thumbprint(self) -> str:
        """The certificate's SHA-256 thumbprint in base64url: `x5t#S256`."""
        return encode_base64url(hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).digest())

    @cached_property
    def jwk(self) -> dict[str, object]:
        """The public key as a JSON Web Key (RFC 7517)."""
        numbers = self.public.public_numbers()
        # x5c is base64 with padding, unlike everything else in a key (RFC 7517, section 4.7).
        body = "".join(self.certificate_pem.splitlines()[1:-1])
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.thumbprint,
            "x5t": self.thumbprint,
            "n": encode_integer(numbers.n),
            "e": encode_integer(numbers.e),
            "x5c": [body],
        }

    def sign(self, claims: Mapping[str, object], **headers: object) -> str:
        """Return the claims as an RS256 JWT with `kid` and `x5t`; `headers` adds to them or replaces them."""
        named: dict[str, object] = {"kid": self.thumbprint, "x5t": self.thumbprint}
        return jwt.encode(dict(claims), self.private, algorithm="RS256", headers=named | headers)


class KeyRing:
    """Signing keys in the order they were made; the last one signs, all are published."""

    def __init__(self, shelf: Shelf, common_name: str) -> None:
        """Load the keys from `shelf`, or create the first one."""
        self._shelf = shelf
        self._common_name = common_name
        self._keys: tuple[SigningKey, ...] = ()
        for _, document in sorted(shelf.read_all().items()):
            members = Members(document)
            key = SigningKey.from_pem(members.text("privateKey"), members.text("certificate"))
            self._keys += (key,)
        if not self._keys:
            self.rotate(keep_old=False)

    @property
    def published(self) -> tuple[SigningKey, ...]:
        """Every key whose signatures are valid, the current one last."""
        return self._keys

    @property
    def current(self) -> SigningKey:
        """The key that signs."""
        return self._keys[-1]

    def find(self, kid: object) -> SigningKey | None:
        """Return the published key with this id, or None."""
        return next((key for key in self._keys if key.thumbprint == kid), None)

    def rotate(self, *, keep_old: bool) -> None:
        """Sign with a new key, and keep or remove the old ones."""
        key = SigningKey.generate(self._common_name)
        self._keep(*(self._keys if keep_old else ()), key)

    def remove_old(self) -> None:
        """Keep the current key alone."""
        self._keep(self.current)

    def _keep(self, *keys: SigningKey) -> None:
        for name in self._shelf.read_all():
            self._shelf.remove(name)
        for number, key in enumerate(keys):
            document = {"privateKey": key.private_pem, "certificate": key.certificate_pem}
            self._shelf.write(f"{number:06}", document)
        self._keys = keys

    def read(self, token: str, *, audiences: tuple[str, ...] | None, leeway: int = 0) -> dict[str, object]:
        """Return the claims of a token that a published key signed and that is valid now.

        Raises ValueError otherwise; `audiences` None accepts any audience.
        """
        try:
            key = self.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise ValueError("the token was signed by an unknown key")
            claims: dict[str, object] = jwt.decode(
                token,
                key.public,
                algorithms=["RS256"],
                audience=audiences,
                leeway=leeway,
                options={"verify_aud": audiences is not None, "require": ["exp"]},
            )
        except jwt.InvalidTokenError as error:
            raise ValueError(str(error)) from error
        return claims
