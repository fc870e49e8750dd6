"""Client assertions: a JWT instead of a secret (RFC 7523, section 2.2).

Either signed with the certificate of the registration
(learn.microsoft.com/entra/identity-platform/certificate-credentials), or a token of the managed identity that
is trusted as a federated credential.
"""

import threading
import time
from http import HTTPStatus

import jwt

from local_azure.entra.accounts import CONTOSO, TENANTS, name_issuer
from local_azure.entra.errors import EntraError
from local_azure.entra.registration import (
    EXCHANGE_AUDIENCE,
    IDENTITY_PRINCIPAL_ID,
    Registrations,
    WebRegistration,
)
from local_azure.signing import KeyRing

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LEEWAY_SECONDS = 300


class Assertions:
    """Checks client assertions and remembers which were used."""

    def __init__(self, registrations: Registrations, keys: KeyRing, tls_origin: str) -> None:
        """Trust the certificates of `registrations` and tokens signed by `keys`."""
        self._registrations = registrations
        self._keys = keys
        self._tls_origin = tls_origin
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}

    def identify(self, assertion: str) -> str | None:
        """Return the client id that an unverified certificate assertion names, or None."""
        issuer = _read_unverified(assertion).get("iss")
        return issuer if isinstance(issuer, str) and self._registrations.find(issuer) else None

    def check(self, app: WebRegistration, assertion: str) -> None:
        """Return if `assertion` proves that the caller is `app`. Raises EntraError otherwise."""
        if _read_unverified(assertion).get("iss") == app.client_id:
            self._check_certificate(app, assertion)
        else:
            self._check_federated(assertion)

    def _check_certificate(self, app: WebRegistration, assertion: str) -> None:
        header = jwt.get_unverified_header(assertion)
        # MSAL keeps the padding of base64url; other libraries omit it, as RFC 7515 requires.
        thumbprints = {str(header.get(name, "")).rstrip("=") for name in ("x5t", "x5t#S256")}
        registered = (
            certificate
            for certificate in app.certificates.published
            if thumbprints & {certificate.thumbprint, certificate.sha256_thumbprint}
        )
        certificate = next(registered, None)
        if certificate is None:
            raise _refuse(
                700027,
                "The certificate with identifier used to sign the client assertion is not registered on"
                " application.",
            )
        try:
            claims = jwt.decode(
                assertion,
                certificate.public,
                algorithms=["RS256", "PS256"],
                audience=self._list_audiences(),
                subject=app.client_id,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub", "jti"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refuse(
                700024, "Client assertion is not within its valid time range. It has expired."
            ) from None
        except jwt.InvalidAudienceError:
            raise _refuse(700023, "Client assertion audience claim does not match Realm issuer.") from None
        except jwt.InvalidTokenError as error:
            raise _refuse(700027, f"Client assertion failed validation: {error}.") from None
        if not self._use(str(claims["jti"]), float(claims["exp"])):
            raise _refuse(700030, "Client assertion with this jti was used before.")

    def _check_federated(self, assertion: str) -> None:
        try:
            claims = self._keys.read(assertion, audiences=None)
        except ValueError as error:
            raise _refuse(700211, f"The presented assertion failed validation: {error}.") from None
        expected = {
            700211: ("iss", name_issuer(self._tls_origin, CONTOSO)),
            700212: ("aud", EXCHANGE_AUDIENCE),
            700213: ("sub", IDENTITY_PRINCIPAL_ID),
        }
        for code, (name, value) in expected.items():
            if claims.get(name) != value:
                raise _refuse(
                    code,
                    f"No matching federated identity record found for presented assertion {name}"
                    f" '{claims.get(name)}'.",
                )

    def _list_audiences(self) -> list[str]:
        tenants = [*TENANTS, "organizations", "common"]
        return [
            f"{self._tls_origin}/{tenant}{path}"
            for tenant in tenants
            for path in ("/oauth2/v2.0/token", "/v2.0")
        ]

    def _use(self, jti: str, expires_at: float) -> bool:
        """Remember `jti` until it expires; return False if it was used before."""
        now = time.time()
        with self._lock:
            self._used = {old: end for old, end in self._used.items() if end + LEEWAY_SECONDS > now}
            if jti in self._used:
                return False
            self._used[jti] = expires_at
            return True


def _read_unverified(assertion: str) -> dict[str, object]:
    try:
        claims: dict[str, object] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise _refuse(50027, "JWT token is invalid or malformed.") from None
    return claims


def _refuse(code: int, message: str) -> EntraError:
    return EntraError("invalid_client", code, message, HTTPStatus.UNAUTHORIZED)
