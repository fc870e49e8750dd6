"""The credential that the SDK's tests import but use only with recordings."""


class FakeTokenCredential:
    """Never asked for a token here."""
