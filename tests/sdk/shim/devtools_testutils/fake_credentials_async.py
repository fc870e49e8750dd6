class AsyncFakeCredential:
    """Imported by the SDK's tests, but used only with recordings."""
