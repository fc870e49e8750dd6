"""What the web views and the commands work with: the settings, and the services made from them."""

from dataclasses import dataclass

from trusted_service.access import AccessService
from trusted_service.administration import Administration
from trusted_service.audit import AuditTrail
from trusted_service.communication import Communication
from trusted_service.config import Settings
from trusted_service.directory import Directory
from trusted_service.entra.access_tokens import AccessTokens
from trusted_service.entra.sign_in import EntraSignIn
from trusted_service.identity_history import IdentityHistory
from trusted_service.job_runner import JobRunner
from trusted_service.jobs import Jobs
from trusted_service.later import Later
from trusted_service.mapping_import import MappingImport
from trusted_service.readiness import Readiness
from trusted_service.reindex import Reindex
from trusted_service.repair import Repair
from trusted_service.resource_pin import ResourcePin
from trusted_service.restoration import Restoration
from trusted_service.storage.audit import AuditTable
from trusted_service.storage.sessions import SessionTable
from trusted_service.upkeep import Upkeep
from trusted_service.usage import UsageCounter
from trusted_service.usage_history import UsageHistory
from trusted_service.user_lookup import UserLookup


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """One of these for each process."""

    settings: Settings
    entra: EntraSignIn
    access: AccessService
    access_tokens: AccessTokens
    administration: Administration
    directory: Directory
    lookup: UserLookup
    history: IdentityHistory
    repair: Repair
    reindex: Reindex
    restoration: Restoration
    pin: ResourcePin
    communication: Communication
    audit: AuditTable
    trail: AuditTrail
    sessions: SessionTable
    usage: UsageCounter
    usage_history: UsageHistory
    jobs: Jobs
    job_runner: JobRunner
    readiness: Readiness
    later: Later
    mapping_import: MappingImport
    upkeep: Upkeep
