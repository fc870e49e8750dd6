class FakeTokenCredential:
    """Imported by the SDK's tests, but used only with recordings."""
