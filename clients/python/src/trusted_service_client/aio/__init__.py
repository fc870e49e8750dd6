"""The refresher for asyncio, for the CommunicationTokenCredential of `azure.communication.chat.aio`."""

from trusted_service_client.aio.refresher import create_token_refresher

__all__ = ["create_token_refresher"]
