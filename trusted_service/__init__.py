"""Trusted user access service for Azure Communication Services.

The way through: request → `web` → `access` → `mapping` → `storage` and `communication` → Azure.
"""
