"""The audit trail: written before an action and after it. What cannot be written down does not happen."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

import structlog

from trusted_service import upstream
from trusted_service.errors import TrustedServiceError, UpstreamError
from trusted_service.models import Actor, AuditEvent, UserId
from trusted_service.storage.audit import AuditQuery, AuditTable

log = structlog.get_logger(__name__)

CLOSING_SECONDS = 2.0

EVENTS = {
    "block": "user_updated",
    "unblock": "user_updated",
    "revoke": "authn_token_revoked",
    "sign-out": "session_expired",
    "end-session": "session_expired",
    "delete": "user_deleted",
    "export": "sensitive_read",
    "identity-created": "user_created",
    "identity-replaced": "user_updated",
    "identity-moved": "user_updated",
    "restore": "user_updated",
}
"""What the log calls an action in OWASP's words (see `logs`); the others are `authz_admin`."""


class AuditTrail:
    def __init__(self, table: AuditTable) -> None:
        self._table = table

    @contextmanager
    def action(self, actor: Actor, action: str, target: UserId | None, detail: str = "") -> Iterator[None]:
        """Record the intent, then how the action inside ended.

        Raises UpstreamError, and the action does not begin, where the intent cannot be written.
        An outcome that cannot be written is in the log: then the trail says `started`, and no more.
        """
        action_id = uuid.uuid4().hex
        self._table.add(self._event(action_id, actor, action, target, "started", detail))
        try:
            yield
        except TrustedServiceError as error:
            self._close(self._event(action_id, actor, action, target, "failed", str(error)))
            raise
        except Exception as error:
            self._close(self._event(action_id, actor, action, target, "failed", type(error).__name__))
            raise
        self._close(self._event(action_id, actor, action, target, "done", detail))

    def note(self, actor: Actor, action: str, target: UserId | None, detail: str = "") -> None:
        """Record what has happened already. Never fails what it is about: then it is in the log alone."""
        self._close(self._event(uuid.uuid4().hex, actor, action, target, "done", detail))

    def about(self, user_id: UserId) -> Iterator[AuditEvent]:
        """Every event about the user, the newest first."""
        return self._table.all(AuditQuery(target=user_id))

    def _close(self, event: AuditEvent) -> None:
        log.info(
            EVENTS.get(event.action, "authz_admin"),
            action=event.action,
            actor=event.actor.key,
            actor_kind=event.actor.kind,
            target=str(event.target) if event.target else None,
            outcome=event.outcome,
            detail=event.detail,
        )
        try:
            with upstream.extra_time(CLOSING_SECONDS):
                self._table.add(event)
        except UpstreamError as error:
            log.error("audit_not_written", action_id=event.action_id, reason=error.reason)

    def _event(
        self,
        action_id: str,
        actor: Actor,
        action: str,
        target: UserId | None,
        outcome: Literal["started", "done", "failed"],
        detail: str,
    ) -> AuditEvent:
        return AuditEvent(
            action_id=action_id,
            at=datetime.now(UTC),
            actor=actor,
            action=action,
            target=target,
            outcome=outcome,
            detail=detail,
            request_id=upstream.current_request_id() or "",
        )
