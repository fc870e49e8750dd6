"""The SDK's own tests, run against the local Azure."""
