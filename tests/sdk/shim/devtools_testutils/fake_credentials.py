class FakeTokenCredential:
    """The SDK's tests import it, but use it only with recordings."""
