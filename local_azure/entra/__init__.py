"""The local Entra ID: sign-in pages, the v2.0 endpoints and a managed-identity endpoint."""
