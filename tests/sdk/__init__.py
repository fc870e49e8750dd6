"""The SDK's own tests, run against the stand-ins."""
