"""Trusted user access service for Azure Communication Services.

The way through: request → `web` → `access` or `users` → `entra`, `storage` and `azure` → Azure.
"""

__version__ = "0.1.0"
