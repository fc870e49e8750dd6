"""Builds the application: settings, one set of clients for the process, services, routes."""

import os
from pathlib import Path

import requests
from azure.core.credentials import TokenCredential
from azure.identity import ManagedIdentityCredential
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from trusted_service import cli, connections, logs, web
from trusted_service.access import AccessService
from trusted_service.administration import Administration
from trusted_service.audit import AuditTrail
from trusted_service.communication import Communication
from trusted_service.config import Settings
from trusted_service.directory import Directory
from trusted_service.entra.access_tokens import AccessTokens
from trusted_service.entra.credential import client_credential
from trusted_service.entra.http import EntraHttp
from trusted_service.entra.metadata import Metadata
from trusted_service.entra.sign_in import EntraSignIn
from trusted_service.entra.teams_tokens import TeamsTokens
from trusted_service.erasure import Erasure
from trusted_service.identity_history import IdentityHistory
from trusted_service.identity_switch import IdentitySwitch
from trusted_service.job_runner import JobRunner
from trusted_service.job_work import JobWork
from trusted_service.jobs import Jobs
from trusted_service.later import Later
from trusted_service.mapping_import import MappingImport
from trusted_service.new_identities import NewIdentities
from trusted_service.provisioning import Provisioning
from trusted_service.readiness import Readiness
from trusted_service.reindex import Reindex
from trusted_service.repair import Repair
from trusted_service.resource_pin import ResourcePin
from trusted_service.restoration import Restoration
from trusted_service.services import Services
from trusted_service.storage.audit import AuditTable
from trusted_service.storage.identities import IdentityTable
from trusted_service.storage.jobs import JobTable
from trusted_service.storage.ledger import LedgerTable
from trusted_service.storage.sessions import SessionLimits, SessionTable
from trusted_service.storage.tables import Tables
from trusted_service.storage.usage import UsageTable
from trusted_service.storage.user_index import UserIndexTable
from trusted_service.upkeep import Upkeep
from trusted_service.usage import UsageCounter
from trusted_service.usage_history import UsageHistory
from trusted_service.user_index import UserIndex
from trusted_service.user_lookup import UserLookup
from trusted_service.web.host import OneHost

CONNECTIONS = 64
"""Kept open per upstream: one for each thread of a gunicorn worker (gunicorn.conf.py)."""


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application. No network is touched. Raises SettingsError where settings are bad."""
    settings = settings or Settings.from_env()
    logs.configure(settings.log_format)
    templates = Path(__file__).parent.parent / "templates"
    app = Flask(__name__, template_folder=str(templates))
    app.config.update(SEND_FILE_MAX_AGE_DEFAULT=3600)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # it would answer some paths with a redirect
    app.extensions["trusted_service"] = build_services(settings)
    web.init_app(app, settings)
    cli.init_app(app)
    if settings.applicationinsights_connection_string:
        from trusted_service import telemetry  # costs a second, so only where it is used

        telemetry.configure(settings.applicationinsights_connection_string)
        telemetry.instrument(app)
    app.wsgi_app = OneHost(app.wsgi_app, settings.public_url)  # type: ignore[method-assign]
    if settings.trusted_proxy_hops:
        # The client's address and nothing else: scheme and host are those of PUBLIC_URL.
        addresses = settings.trusted_proxy_hops
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=addresses, x_proto=0, x_host=0, x_prefix=0)  # type: ignore[method-assign]
    return app


def build_services(settings: Settings) -> Services:
    """Make the clients and what stands on them. No network is touched."""
    session = connections.new_session(CONNECTIONS)
    credential = _managed_identity(settings, session)
    http = EntraHttp(session)
    metadata = Metadata(settings.entra.authority, http)
    sign_in = EntraSignIn(
        authority=settings.entra.authority,
        client_id=settings.entra.client_id,
        credential=client_credential(settings.entra, credential),
        allowed_tenants=settings.entra.allowed_tenants,
        metadata=metadata,
        http=http,
    )
    tables = Tables.connect(
        settings.table_storage, credential, session, may_create=settings.table_storage_create_tables
    )
    identities = IdentityTable(tables.open("identities"))
    sessions = SessionTable(
        tables.open("sessions"),
        SessionLimits.of_minutes(settings.session_idle_minutes, settings.session_absolute_minutes),
    )
    communication = Communication.connect(settings.communication_services, credential, session)
    later = Later()
    audit_table = AuditTable(tables.open("audit"))
    audit = AuditTrail(audit_table)
    ledger = LedgerTable(tables.open("ledger"))
    index_table = UserIndexTable(tables.open("userindex"))
    history = IdentityHistory(ledger)
    index = UserIndex(identities, index_table, history)
    pin = ResourcePin(ledger, identities, communication)
    erasure = Erasure(
        identities=identities, communication=communication, history=history, index=index, pin=pin
    )
    switch = IdentitySwitch(identities, sessions, history)
    lookup = UserLookup(identities, history)
    administration = Administration(
        identities=identities,
        sessions=sessions,
        communication=communication,
        history=history,
        index=index,
        pin=pin,
        erasure=erasure,
        audit=audit,
        later=later,
    )
    usage_table = UsageTable(tables.open("usage"))
    usage = UsageCounter(usage_table)
    job_table = JobTable(tables.open("jobs"))
    return Services(
        settings=settings,
        entra=sign_in,
        access=AccessService(
            identities=identities,
            sessions=sessions,
            provisioning=Provisioning(
                identities=identities,
                sessions=sessions,
                communication=communication,
                new_identities=NewIdentities(
                    identities=identities, communication=communication, history=history, pin=pin, later=later
                ),
                switch=switch,
                index=index,
                pin=pin,
                erasure=erasure,
                grace_seconds=settings.missing_identity_grace_seconds,
            ),
            communication=communication,
            teams_tokens=TeamsTokens(
                client_id=settings.entra.client_id, allowed_clients=settings.api_clients, metadata=metadata
            ),
            index=index,
            audit=audit,
            usage=usage,
            token_scopes=settings.token_scopes,
            token_lifetime_minutes=settings.token_lifetime_minutes,
        ),
        access_tokens=AccessTokens(
            client_id=settings.entra.client_id,
            allowed_tenants=settings.entra.allowed_tenants,
            allowed_clients=settings.api_clients,
            metadata=metadata,
        ),
        administration=administration,
        directory=Directory(index_table, index, lookup, settings.entra.allowed_tenants),
        lookup=lookup,
        history=history,
        repair=Repair(
            identities=identities,
            index=index,
            history=history,
            administration=administration,
            audit=audit_table,
        ),
        reindex=Reindex(identities, index_table, index, history),
        restoration=Restoration(
            identities=identities,
            sessions=sessions,
            communication=communication,
            history=history,
            switch=switch,
            index=index,
            pin=pin,
            audit=audit,
        ),
        pin=pin,
        communication=communication,
        audit=audit_table,
        trail=audit,
        sessions=sessions,
        usage=usage,
        usage_history=UsageHistory(usage_table),
        later=later,
        mapping_import=MappingImport(
            identities=identities,
            history=history,
            index=index,
            pin=pin,
            administration=administration,
            audit=audit,
        ),
        upkeep=Upkeep(sessions, index, pin),
        jobs=Jobs(job_table, audit),
        job_runner=JobRunner(job_table, JobWork(lookup, administration)),
        readiness=Readiness(
            {
                "entraId": sign_in.check,
                "tableStorage": tables.check,
                "communicationServices": pin.check,
            }
        ),
    )


def _managed_identity(settings: Settings, session: requests.Session) -> TokenCredential | None:
    """The federated credential's identity, else the one that AZURE_CLIENT_ID names, else the system's."""
    uses_endpoint = settings.communication_services.endpoint or settings.table_storage.endpoint
    client_id = settings.entra.managed_identity_client_id or os.environ.get("AZURE_CLIENT_ID")
    if not (uses_endpoint or settings.entra.managed_identity_client_id):
        return None
    return ManagedIdentityCredential(
        client_id=client_id, transport=connections.new_transport(session), retry_total=0
    )
