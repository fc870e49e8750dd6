"""The services of one process, made from the settings: what views and commands work with."""

import contextlib
from datetime import timedelta
from functools import partial

import structlog

from trusted_service.access.administrators import WRITE_SECONDS, Administrators
from trusted_service.access.erasure import Erasure
from trusted_service.access.identity_switch import IdentitySwitch
from trusted_service.access.new_identities import NewIdentities
from trusted_service.access.provisioning import Provisioning
from trusted_service.access.resource_pin import ResourcePin
from trusted_service.access.service import AccessService
from trusted_service.access.user_index import UserIndex
from trusted_service.audit import AuditTrail
from trusted_service.azure import transport
from trusted_service.azure.communication import Communication
from trusted_service.azure.managed_identity import ManagedIdentity, check_managed_identity
from trusted_service.background import BackgroundTasks
from trusted_service.entra.authority import Authority
from trusted_service.entra.sign_in import EntraSignIn, client_credential
from trusted_service.entra.tokens import EntraTokens
from trusted_service.errors import UpstreamError
from trusted_service.jobs.service import Jobs
from trusted_service.jobs.worker import POLL_SECONDS, JobWorker
from trusted_service.observability import canary
from trusted_service.observability.health import Readiness
from trusted_service.personal_data import PersonalData
from trusted_service.retention import FIRST_RUN_SECONDS, RUN_SECONDS, Retention
from trusted_service.settings import Settings
from trusted_service.settings.addresses import redis_identity
from trusted_service.storage.account import StorageAccount
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.ledger import Ledger
from trusted_service.storage.sessions import PURGE_DELAY, SessionTable
from trusted_service.usage import DAYS, FLUSH_SECONDS, UsageCounter, UsageTable
from trusted_service.users.actor_names import ActorNames
from trusted_service.users.administration import Administration
from trusted_service.users.directory import Directory
from trusted_service.users.importing import MappingImport
from trusted_service.users.reindex import Reindex
from trusted_service.users.repair import FINISH_SECONDS, Repair
from trusted_service.users.restoration import Restoration

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 64
"""Kept open per upstream: one for each thread of a gunicorn worker (gunicorn.conf.py)."""
ENTRA_SECONDS, PIN_REFRESH_SECONDS, WARN_SECONDS = 5.0, 15.0, 86_400.0
REDIS_SECONDS = 60.0
"""Redis wants a new token three minutes before the old one ends; there is one five minutes before."""


class Services:
    """One for each process. Making it touches no network."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.background = BackgroundTasks()
        session = transport.new_session(MAX_CONNECTIONS)
        # The federated credential's identity, else the one that AZURE_CLIENT_ID names, else the system's.
        client_id = settings.entra_managed_identity_client_id or settings.azure_client_id
        endpoints = settings.communication_services_endpoint, settings.table_storage_endpoint
        is_used = client_id or any(endpoints) or redis_identity(settings.rate_limit_storage_uri)
        credential = ManagedIdentity(client_id, session) if is_used else None

        self.authority = authority = Authority(settings.entra_authority, session)
        tenants = settings.entra_allowed_tenants
        roles = (settings.admin_role,)
        self.entra_tokens = EntraTokens(
            authority, settings.entra_client_id, tenants, settings.api_clients, roles
        )
        self.entra = EntraSignIn(authority, self.entra_tokens, client_credential(settings, credential))
        self.communication = communication = Communication(settings, credential, session)

        self.storage = storage = StorageAccount(settings, credential, session)
        audit_table, jobs_table = storage.open("audit"), storage.open("jobs")
        self.identities = identities = IdentityTable(storage.open("identities"), jobs_table)
        idle = timedelta(minutes=settings.session_idle_minutes)
        absolute = timedelta(minutes=settings.session_absolute_minutes)
        self.sessions = sessions = SessionTable(storage.open("sessions"), idle, absolute)
        ledger_table = storage.open("ledger")
        self.ledger = ledger = Ledger(ledger_table)
        self.audit = audit = AuditTrail(audit_table)
        usage = UsageTable(storage.open("usage"))
        self.usage = UsageCounter(usage, days=settings.retention_usage_days or DAYS)

        self.index = index = UserIndex(identities, storage.open("userindex"), ledger)
        self.pin = pin = ResourcePin(ledger_table, identities, communication)
        erasure = Erasure(identities, ledger, communication, index, pin, audit)
        switch = IdentitySwitch(identities, sessions, ledger)
        new_identities = NewIdentities(identities, ledger, communication, pin, self.background)
        grace = timedelta(seconds=settings.missing_identity_grace_seconds)
        provisioning = Provisioning(
            identities, sessions, communication, new_identities, switch, index, pin, erasure, grace
        )
        self.access = AccessService(
            identities, sessions, provisioning, communication, self.entra_tokens, index, audit, self.usage
        )

        self.administrators = Administrators(
            storage.open("administrators"), identities, tenants, settings.admin_role
        )
        self.actor_names = ActorNames(identities, sessions)
        self.directory = Directory(identities, ledger, index, tenants)
        self.administration = Administration(
            *(identities, sessions, ledger, communication, index, pin, erasure),
            *(self.administrators, audit, self.background, tenants),
        )
        self.reindex = Reindex(identities, ledger, index)
        self.repair = Repair(
            *(identities, ledger, index, self.administration, audit),
            *((audit_table, jobs_table), settings.retention_audit_days),
        )
        self.restoration = Restoration(identities, sessions, ledger, communication, switch, index, pin, audit)
        self.mapping_import = MappingImport(identities, ledger, index, pin, self.administration, audit)
        self.jobs = Jobs(jobs_table, audit, self.administrators)
        self.job_worker = JobWorker(self.jobs, self.administration, communication.shares)

        kept = {
            "audit": (settings.retention_audit_days, audit.purge),
            "usage": (settings.retention_usage_days, usage.purge),
            "jobs": (settings.retention_jobs_days, self.jobs.purge),
        }
        rules = {kind: (timedelta(days=days), purge) for kind, (days, purge) in kept.items() if days}
        rules["sessions"] = PURGE_DELAY, sessions.purge
        self.retention = Retention(ledger_table.now, self.background, rules)

        self.personal_data = PersonalData(
            identities, sessions, ledger, audit, self.jobs, self.administrators, pin
        )

        checks = [self.entra.check]
        if credential:
            checks.append(partial(check_managed_identity, client_id, session))
        self.canary = canary.Canary(
            *(ledger_table, ledger, pin, communication, new_identities), settings.token_scopes, checks
        )
        self.readiness = Readiness(
            {"entraId": authority.refresh, "tableStorage": storage.check, "communicationServices": pin.check}
        )

    def start(self, processes: int = 1) -> None:
        """Start periodic work, in one of several processes. Comes after any fork."""
        self.communication.shares.sharers["users"] = processes
        self.background.run(self.index.require)
        self.background.run_every(ENTRA_SECONDS, self.authority.discovery.refresh_if_due)
        # A sign-in or a bearer token fetches the keys first, as a rule.
        self.background.run_every(ENTRA_SECONDS, self.authority.keys.refresh_if_due, first_after=60.0)
        self.background.run_every(PIN_REFRESH_SECONDS, partial(self.pin.find, fresh=True))
        if self.communication.shares.redis is not None:
            self.background.run_every(REDIS_SECONDS, self.communication.shares.redis.renew)
        self.background.run_every(FLUSH_SECONDS, self.usage.flush)
        self.background.run_every(WRITE_SECONDS, self.administrators.flush)
        self.background.run_every(RUN_SECONDS, self.retention.run, first_after=FIRST_RUN_SECONDS)
        self.background.run_every(POLL_SECONDS, self.job_worker.poll)
        self.background.run_every(FINISH_SECONDS, self.repair.finish_blocks)
        self.background.run_every(canary.SECONDS, self.canary.run, first_after=canary.FIRST_SECONDS)
        self.background.run_every(WARN_SECONDS, self.warn)

    def warn(self) -> None:
        """Log what is probably a mistake, or soon will be one, such as that a certificate expires."""
        for warning in self.settings.warnings():
            log.warning("settings_warning", reason=warning)

    def close(self) -> None:
        """Run delayed tasks, give jobs back and write the last counts, as the process ends."""
        self.background.close()
        try:
            self.job_worker.close()
        finally:
            self.usage.close()
            with contextlib.suppress(UpstreamError):
                self.administrators.flush()
