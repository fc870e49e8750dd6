"""Gets tokens from the trusted service for CommunicationTokenCredential."""

from trusted_service_client.errors import TokenRequestError
from trusted_service_client.refresher import create_token_refresher

__all__ = ["TokenRequestError", "create_token_refresher"]
