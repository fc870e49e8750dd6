"""A local Azure for laptops and tests. The service never imports it.

Entra ID, with a managed-identity endpoint, and Communication Services are Flask apps served over TLS with a
throwaway CA. Table Storage is Azurite. `python -m local_azure` starts all of them; the `/control` routes let
tests plant faults.
"""
