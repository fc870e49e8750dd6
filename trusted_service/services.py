"""What the web views and the commands work with: the settings, and the services made from them."""

from dataclasses import dataclass

from trusted_service.access import AccessService
from trusted_service.config import Settings
from trusted_service.entra.sign_in import EntraSignIn
from trusted_service.readiness import Readiness


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """One of these for each process."""

    settings: Settings
    entra: EntraSignIn
    access: AccessService
    readiness: Readiness
