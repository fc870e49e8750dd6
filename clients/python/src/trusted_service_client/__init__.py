"""Refreshes tokens of Azure Communication Services at the trusted service."""

from trusted_service_client.errors import TokenRequestError
from trusted_service_client.refresher import create_token_refresher

__all__ = ["TokenRequestError", "create_token_refresher"]
