"""The stand-in for Entra ID: sign-in pages, the v2.0 endpoints and a managed-identity endpoint."""
