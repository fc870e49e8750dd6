"""Stand-ins for Azure that run on a laptop and in tests; the service never imports them.

Entra ID and Communication Services are Flask apps served over TLS with a throwaway CA, a
managed-identity endpoint is part of the former, and Table Storage is Azurite. `python -m local_azure`
starts all of it; `/control` routes let tests break things on purpose.
"""
