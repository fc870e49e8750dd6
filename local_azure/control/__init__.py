"""Control routes: tests use them to inspect the local Azure and to plant faults."""
