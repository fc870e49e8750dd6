"""Refusals that Entra ID decides by the policies and settings of a directory, which the local one lacks.

A planted fault of the kind `refuse` has the endpoint respond with one of them
(learn.microsoft.com/entra/identity-platform/reference-error-codes).
"""

from http import HTTPStatus

from flask import g

from local_azure.entra.errors import EntraError
from local_azure.faults import Fault

REFUSALS: dict[int, tuple[str, str]] = {
    16000: ("interaction_required", "Either multiple user identities are available for the current request."),
    50020: ("access_denied", "User account from identity provider 'live.com' does not exist in tenant."),
    50053: ("access_denied", "The account is locked, you've tried to sign in too many times."),
    50057: ("access_denied", "The user account is disabled."),
    50076: ("interaction_required", "Due to a configuration change, you must use multi-factor."),
    50079: ("interaction_required", "You must enroll in multi-factor authentication."),
    50105: ("invalid_grant", "The signed in user is not assigned to a role for the application."),
    53000: ("access_denied", "Device is not in required device state: compliant."),
    53003: ("access_denied", "Access has been blocked by Conditional Access policies."),
    65001: ("invalid_grant", "The user or administrator has not consented to use the application."),
    65004: ("access_denied", "User declined to consent to access the app."),
    70021: ("invalid_client", "No matching federated identity record found for presented assertion."),
    90002: ("invalid_request", "Tenant not found. Check to make sure you have the correct tenant ID."),
    90033: ("temporarily_unavailable", "A transient error has occurred. Please try again."),
    90094: ("access_denied", "Admin consent is required for the permissions requested by this application."),
    500011: ("invalid_resource", "The resource principal was not found in the tenant."),
    501051: ("invalid_grant", "Application is not assigned to a role for the application."),
    700016: ("unauthorized_client", "Application was not found in the directory 'Contoso'."),
    700027: ("invalid_client", "The certificate used to sign the client assertion is not registered."),
    700213: ("invalid_client", "No matching federated identity record found for the subject."),
    7000112: ("unauthorized_client", "Application is disabled."),
    7000215: ("invalid_client", "Invalid client secret provided."),
    7000222: ("invalid_client", "The provided client secret keys for app are expired."),
    9002327: ("invalid_request", "Tokens issued for the 'Single-Page Application' type: cross-origin only."),
}  # fmt: skip


def raise_planted_refusal() -> None:
    """Raises the EntraError that a planted fault asks for, if there is one."""
    fault: Fault | None = g.get("fault")
    if fault is None or fault.kind != "refuse":
        return
    number = int((fault.code or "").removeprefix("AADSTS"))
    error, message = REFUSALS.get(number, ("invalid_grant", "Refused."))
    status = HTTPStatus.UNAUTHORIZED if error == "invalid_client" else HTTPStatus.BAD_REQUEST
    raise EntraError(error, number, message, status)
