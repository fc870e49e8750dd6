"""The asynchronous credential that the SDK's tests import but use only with recordings."""


class AsyncFakeCredential:
    """Never asked for a token here."""
