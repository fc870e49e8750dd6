"""Reads why Entra ID refuses, by fields that cannot hold a secret. Its texts can, and a link may be forged.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trusted_service.errors import Cause

NUMBERS: dict[Cause, tuple[int, ...]] = {
    "not-assigned": (50105,),
    "policy": (
        *(50005, 50097, 50129, 50131, 50158, 53000, 53001, 53002, 53003, 53008, 53009, 53010, 53011),
        *(530002, 530003, 530021, 530022, 530031, 530032, 530033, 530034, 530035, 500212, 500213),
    ),
    "approval": (90093, 90094, 90095, 900941, 650051, 650052, 650056),
    "declined": (65001, 65004),
    "account": (50020, 50034, 50053, 50055, 50057, 50177, 50178, 51004, 90072),
    "again": (
        *(16000, 16001, 16002, 16003, 50058, 50072, 50074, 50076, 50078, 50079, 50133, 50173),
        *(53004, 70043, 70044, 500121),
    ),
    # At the token endpoint this is a failure of the service: see `EntraSignIn.complete`.
    "setup": (65005, 70021, 90002, 500011, 700016, 700027, 700213, 7000112, 7000215, 7000222),
}
CAUSES = {str(number): cause for cause, numbers in NUMBERS.items() for number in numbers}
WORDS: dict[str, Cause] = {
    "access_denied": "declined",
    "consent_required": "declined",
    "permission_denied": "declined",
    "login_required": "again",
    "interaction_required": "again",
    "account_selection_required": "again",
}
"""By `error` where the number says nothing: https://openid.net/specs/openid-connect-core-1_0.html#AuthError"""
GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
PATTERNS = {
    "aadsts": r"\b(AADSTS[0-9]{1,8})\b",
    "entra_trace_id": rf"\bTrace ID: ({GUID})\b",
    "entra_correlation_id": rf"\bCorrelation ID: ({GUID})\b",
}
MAX_DESCRIPTION = 4000


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """`error`: OAuth's word; `number`: of `AADSTS…`, or empty; `details`: it and the ids, for the log."""

    error: str
    number: str
    cause: Cause | None
    details: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.error} {self.details.get('aadsts', '')}".rstrip()


def read_refusal(response: Mapping[str, object]) -> Refusal:
    """Read the parameters of the callback, or the JSON of the token endpoint."""
    codes, error = response.get("error_codes"), response.get("error")
    error = re.sub("[^a-z_]", "", error[:40] if isinstance(error, str) else "") or "error"
    members = f"Trace ID: {response.get('trace_id')} Correlation ID: {response.get('correlation_id')}"
    number = f"AADSTS{codes[0]}" if isinstance(codes, list) and codes else ""
    text = f"{number} {members[:200]} {str(response.get('error_description'))[:MAX_DESCRIPTION]}"
    matches = {name: re.search(pattern, text, re.IGNORECASE | re.ASCII) for name, pattern in PATTERNS.items()}
    details = {name: match[1] for name, match in matches.items() if match}
    number = details.get("aadsts", "")[6:]
    return Refusal(error=error, number=number, cause=CAUSES.get(number) or WORDS.get(error), details=details)
