"""Certificates: one that Entra ID would refuse stops the start, and one that ends soon is a warning."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from tests.support.settings import environment, read_problems
from trusted_service.services import Services
from trusted_service.settings import Settings

PATH = "ENTRA_CLIENT_CERTIFICATE_PATH"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
RSA, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
NO_PASSWORD = serialization.NoEncryption()


def certificate(key: Key = RSA, *, begins: float = -100, ends: float = 365) -> bytes:
    """A self-signed certificate that begins and ends so many days from now."""
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "canary é")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + timedelta(begins)).not_valid_after(now + timedelta(ends))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def private(
    key: Key = RSA,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: serialization.KeySerializationEncryption = NO_PASSWORD,
) -> bytes:
    return key.private_bytes(Encoding.PEM, form, encryption)


OLD_FORM = PrivateFormat.TraditionalOpenSSL
FORM = "PEM file: a certificate first, and its RSA key without a password"
LOCKED = serialization.BestAvailableEncryption(b"canary")
USABLE = {
    "key first": private() + certificate(),
    "certificate first": certificate() + private(form=OLD_FORM),
    "with its issuer": certificate() + certificate(OTHER) + private(),
    "as Windows writes": b"\xef\xbb\xbf" + (private() + certificate()).replace(b"\n", b"\r\n"),
    "with attributes": "friendlyName: Schlüssel\n".encode("latin-1") + private() + certificate(),
}
DATES = "expired or is not valid yet"
UNUSABLE = {
    "EC": private(EC) + certificate(EC),
    "expired": private() + certificate(ends=-30),
    "not begun": private() + certificate(begins=1),
    "another key": private(OTHER) + certificate(),
    "issuer first": certificate(OTHER) + certificate() + private(),
    "locked": private(encryption=LOCKED) + certificate(),
    "locked, old form": private(form=OLD_FORM, encryption=LOCKED) + certificate(),
    "no key": certificate(),
    "no certificate": private(),
    "UTF-16": (private() + certificate()).decode().encode("utf-16"),
    "PFX": b"\x30\x82\x0a\x00canary",
    "cut": (private() + certificate())[:-50],
    "empty": b"",
}


@pytest.mark.parametrize("name", USABLE)
def test_certificate_can_be_used(name: str, tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(USABLE[name])
    settings = Settings.from_env(environment(PATH, str(path)))
    assert settings.warnings({}) == []
    Services(settings)


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_certificate_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "client.pem").write_bytes(UNUSABLE[name])
    (problem,) = read_problems(environment(PATH, f"{tmp_path}/client.pem"))
    assert problem.startswith(f"{PATH} ")
    assert (DATES if name in ("expired", "not begun") else FORM) in problem
    assert "canary" not in problem


@pytest.mark.parametrize(("days", "warned"), [(0.01, True), (29.9, True), (30.1, False)])
def test_certificate_that_ends_soon_is_a_warning(days: float, warned: bool, tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(private() + certificate(ends=days))
    warnings = Settings.from_env(environment(PATH, str(path))).warnings({})
    assert [warning.startswith(f"{PATH}: ") for warning in warnings] == [True] * warned


def test_running_service_warns_of_its_certificate(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    path.write_bytes(private() + certificate(ends=90))
    services = Services(Settings.from_env(environment(PATH, str(path))))
    path.write_bytes(private() + certificate(ends=9))
    with capture_logs() as logs:
        services.warn()
    assert [entry["reason"][:30] for entry in logs if entry["event"] == "settings_warning"] == [f"{PATH}:"]
